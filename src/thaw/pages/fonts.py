"""Find fonts for the text in figures, and escape characters that no installed font has."""

import logging
from collections.abc import Iterable
from contextlib import suppress
from functools import cache

from matplotlib.font_manager import FontProperties, findfont, findSystemFonts, fontManager, get_font

from thaw.pages.text import cut, printable, width

log = logging.getLogger(__name__)

_DEFAULT = "DejaVu Sans"  # ships with Matplotlib
_EVERYTHING = "last resort"  # Matplotlib's fallback font, which draws a box for every character
_NAMED = 5  # the log message lists at most this many characters

_families: dict[str, str | None] = {}  # maps each character looked up so far to its font, or to None


def drawable(name: str, most: int) -> str:
    """Return `name` in at most `most` columns; `$` and characters without a font are escaped."""
    text = printable(name)
    _find_fonts(text + "…")
    for columns in range(most, 2, -1):  # an escape is wider than its character: shorten the name until it fits
        escaped = "".join(c if _families[c] else c.encode("unicode_escape").decode() for c in cut(text, columns))
        if width(escaped) <= most:
            return escaped.replace("$", r"\$")
    return "…"


def families(texts: Iterable[str]) -> list[str]:
    """Return the fonts that have the characters of `texts`, in the order in which Matplotlib tries them."""
    text = printable("".join(texts))
    _find_fonts(text)
    return list(dict.fromkeys([_DEFAULT, *filter(None, (_families[character] for character in text))]))


def _find_fonts(text: str) -> None:
    """Add the characters of `text` to `_families`. Log a message for the first characters without a font."""
    already_logged = None in _families.values()
    new = {character for character in text if character not in _families}
    default = _charmap(findfont(FontProperties(family=_DEFAULT)))
    _families.update({character: _DEFAULT if ord(character) in default else None for character in new})
    missing = {character for character in new if _families[character] is None}
    if missing:
        _find_new_fonts()
    while missing and (found := _best_font(frozenset(missing))):
        family, has = found
        _families.update(dict.fromkeys(has, family))
        missing -= has
    if missing and not already_logged:
        names = " ".join(sorted(missing)[:_NAMED]) + (" …" if len(missing) > _NAMED else "")
        example = min(missing).encode("unicode_escape").decode()
        log.info(
            f"no installed font has characters such as {names}: figures show {example} instead of {min(missing)}. "
            "Install a font with these characters, such as Noto Sans CJK (fonts-noto-cjk)."
        )


@cache
def _find_new_fonts() -> None:
    """Add the fonts that were installed after Matplotlib cached its list of system fonts."""
    for path in set(findSystemFonts()) - {entry.fname for entry in fontManager.ttflist}:
        with suppress(Exception):  # Matplotlib does not support every kind of font
            fontManager.addfont(path)


def _best_font(characters: frozenset[str]) -> tuple[str, set[str]] | None:
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
    try:
        font = get_font(path)
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except Exception:  # a damaged font file must not prevent the figure
        return frozenset()
