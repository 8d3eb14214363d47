"""Text in figures: every character is drawn as itself where a font of the system has it, else escaped."""

import logging
from collections.abc import Iterable
from contextlib import suppress
from functools import cache

from matplotlib.font_manager import FontProperties, findfont, findSystemFonts, fontManager, get_font

from thaw.pages.text import cut, printable

log = logging.getLogger(__name__)

_OWN = "DejaVu Sans"  # comes with Matplotlib
_EVERYTHING = "last resort"  # a font whose glyphs all are boxes, which comes with Matplotlib
_NAMED = 5  # characters in the note

_families: dict[str, str | None] = {}  # of each character that was looked for; None: no font has it


def drawable(name: str, most: int) -> str:
    """Return `name` as Matplotlib draws it in at most `most` columns: without formulas and without empty boxes."""
    text = printable(name)
    _look_for(text + "…")
    escaped = "".join(c if _families[c] else c.encode("unicode_escape").decode() for c in text)
    return cut(escaped, most).replace("$", r"\$")


def families(texts: Iterable[str]) -> list[str]:
    """Return the fonts that have the characters of `texts`, in the order in which Matplotlib asks them."""
    text = printable("".join(texts))
    _look_for(text)
    return list(dict.fromkeys([_OWN, *filter(None, (_families[character] for character in text))]))


def _look_for(text: str) -> None:
    told = None in _families.values()
    new = {character for character in text if character not in _families}
    own = _charmap(findfont(FontProperties(family=_OWN)))
    _families.update({character: _OWN if ord(character) in own else None for character in new})
    missing = {character for character in new if _families[character] is None}
    if missing:
        _find_new_fonts()
    while missing and (found := _best_font(frozenset(missing))):
        family, has = found
        _families.update(dict.fromkeys(has, family))
        missing -= has
    if missing and not told:
        _tell(sorted(missing))


@cache
def _find_new_fonts() -> None:
    """Fonts that were installed since Matplotlib listed those of the system, once and for all."""
    for path in set(findSystemFonts()) - {entry.fname for entry in fontManager.ttflist}:
        with suppress(Exception):  # of a kind that it cannot draw with
            fontManager.addfont(path)


def _best_font(characters: frozenset[str]) -> tuple[str, set[str]] | None:
    """The font of the system that has the most of `characters`, and which; None where no font has any."""
    best: tuple[str, set[str]] | None = None
    for entry in fontManager.ttflist:
        if _EVERYTHING in entry.name.lower().replace("lastresort", _EVERYTHING):
            continue
        has = {character for character in characters if ord(character) in _charmap(entry.fname)}
        if has and (best is None or len(has) > len(best[1])):
            best = entry.name, has
    return best


@cache
def _charmap(path: str) -> frozenset[int]:
    """The characters of a font file, none of one that Matplotlib cannot draw with."""
    try:
        font = get_font(path)
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except Exception:  # a damaged font is no reason to draw nothing
        return frozenset()


def _tell(missing: list[str]) -> None:
    names = " ".join(missing[:_NAMED]) + (" …" if len(missing) > _NAMED else "")
    example = missing[0].encode("unicode_escape").decode()
    log.info(
        f"no font of this system has the characters {names}: figures write {example} for {missing[0]}. "
        "A font such as Noto Sans CJK (fonts-noto-cjk) draws them."
    )
