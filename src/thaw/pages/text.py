"""Format names and numbers for people, on one line of limited width."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

_WIDE = ("W", "F")  # East Asian width classes that take two columns of a terminal
WIDEST_NAME = 40  # largest width of a class name in a table, in terminal columns
_SINGULAR = {"are": "is", "were": "was", "have": "has", "do": "does"}


def shown(name: str, most: int = WIDEST_NAME) -> str:
    """Return `name` as one line of at most `most` terminal columns."""
    return cut(printable(name), most)


def printable(name: str) -> str:
    """Return `name` as one line: control characters are escaped, and bytes that are not UTF-8 are replaced."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in decoded(name))


def decoded(text: str) -> str:
    """Return `text` with a replacement character for each byte that is not UTF-8."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:  # `text` has a lone surrogate that does not come from a file name
        return text.encode("utf-8", "replace").decode()


def cut(text: str, most: int) -> str:
    """Return `text` in at most `most` terminal columns: an ellipsis replaces the middle of a longer text."""
    if width(text) <= most:
        return text
    tail = (most - 1) // 2
    return f"{_first(text, most - 1 - tail)}…{_first(text[::-1], tail)[::-1]}"


def width(text: str) -> int:
    """Return the number of terminal columns that `text` takes."""
    return sum(_columns(character) for character in text)


def listed(names: Iterable[object], most: int = 12) -> str:
    """Return the first `most` names in one line, followed by the number of further names."""
    names = [str(name) for name in names]
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def counted(names: Iterable[str], most: int = 12) -> str:
    """Return the first `most` names, each shortened by `shown`, followed by the number of further names."""
    return listed(map(shown, names), most)


def amount(count: int, thing: str) -> str:
    """Return `count` with `thing` in the singular or the plural: 1 image, 2 images."""
    if count != 1 and re.search("[^aeiou]y$", thing):
        return f"{count:,} {thing[:-1]}ies"
    return f"{count:,} " + agreeing(f"{thing}[{'es' if thing.endswith('s') else 's'}]", count)


def agreeing(text: str, count: int) -> str:
    """Return `text` for `count` things; brackets in `text` mark plural endings and plural verbs.

    "image[s] [are] cut off" becomes "image is cut off" for 1, otherwise "images are cut off".
    """

    def form(match: re.Match) -> str:
        word = match[1]
        if count != 1:
            return word
        return "" if word in ("s", "es") else _SINGULAR.get(word, f"{word}s")

    return re.sub(r"\[(\w+)\]", form, text)


def percentage(share: float) -> str:
    """Return a share as 12.34 %, on one line."""
    return f"{100 * share:.2f}\N{NO-BREAK SPACE}%"


def p_value(value: float) -> str:
    """Format a p-value as `< 0.001`, `= 1`, or `= ` and three decimals."""
    return "< 0.001" if value < 0.001 else "= 1" if value > 0.9995 else f"= {value:.3f}"


def duration(seconds: float) -> str:
    """Return `seconds` in words: 1 min 35 s for 95, 1 h 23 min for 5000."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def aligned(
    rows: Sequence[Sequence[str]], numbers: bool = False, words: int = 1, ruled: Iterable[int] = ()
) -> list[str]:
    """Return a text line for each row of cells; each column is as wide as its widest cell.

    The first `words` columns are left-aligned. With `numbers`, the other columns are right-aligned. `ruled` has the
    indices of rows with a line of dashes above them; negative indices count from the end.
    """
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    above, lines = {place % len(rows) for place in ruled}, []
    for number, row in enumerate(rows):
        if number in above:
            lines.append("  ".join("-" * columns for columns in widths))
        cells = enumerate(zip(row, widths, strict=True))
        lines.append("  ".join(padded(cell, columns, numbers and n >= words) for n, (cell, columns) in cells).rstrip())
    return lines


def padded(text: str, columns: int, right: bool = False) -> str:
    """Return `text` padded with spaces to `columns` terminal columns; with `right`, the text is right-aligned."""
    spaces = " " * (columns - width(text))
    return spaces + text if right else text + spaces


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in _WIDE else 1


def _first(text: str, most: int) -> str:
    taken = 0
    for place, character in enumerate(text):
        taken += _columns(character)
        if taken > most:
            return text[:place]
    return text
