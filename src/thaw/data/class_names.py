"""Find names of files or classes that look the same but differ."""

import unicodedata
from collections.abc import Iterable, Iterator
from itertools import combinations


def confusable_names(names: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each pair of `names` that look the same; the sentence says how the two names differ."""
    by_look: dict[str, list[str]] = {}
    for name in names:
        by_look.setdefault(_look(name), []).append(name)
    for same in by_look.values():
        for one, other in combinations(sorted(same), 2):
            yield f"{one!a} and {other!a} look the same but differ in {_difference(one, other)}"


def _look(name: str) -> str:
    kept = (character for character in unicodedata.normalize("NFKC", name) if unicodedata.category(character) != "Cf")
    return " ".join("".join(kept).split())


def _difference(one: str, other: str) -> str:
    if unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other):
        return "how an accented letter is written (Unicode NFC or NFD)"
    if " ".join(one.split()) == " ".join(other.split()):
        return "spaces"
    return "characters that look alike or cannot be seen"
