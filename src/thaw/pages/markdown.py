"""Markdown whose inserted values appear to readers exactly as they are, whatever characters they contain."""

import re
from collections.abc import Iterable

from jinja2 import ChainableUndefined, Environment, PackageLoader

from thaw.pages.text import agreeing, amount, cut, printable

# Characters that begin markup inside a line: emphasis, code, links, HTML, entities, tables, mentions, addresses, maths.
_MARKUP = re.compile(r"[\\`*_\[\]<>&|~@$#]|:(?=//|\w+:)")


class Verbatim(str):
    """Text that `render_markdown` inserts without escaping, such as code."""


def render_markdown(template: str, **values: object) -> str:
    """Render a template of `thaw/pages/templates`; each value is escaped, except `Verbatim`.

    A missing entry of a value counts as false, because runs of earlier versions lack some entries.
    """
    environment = Environment(
        loader=PackageLoader("thaw.pages"),
        undefined=ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: value if isinstance(value, Verbatim) else escaped(str(value)),
    )
    environment.filters.update(code=code, amount=amount, agreeing=agreeing)
    return environment.get_template(template).render(**values)


def escaped(text: str, most: int | None = None) -> Verbatim:
    """Return `text` as one line of Markdown that shows it literally, shortened to `most` terminal columns."""
    line = printable(text)
    return Verbatim(_MARKUP.sub(r"\\\g<0>", cut(line, most) if most else line))


def code(text: str) -> Verbatim:
    """Return `text` as one line of inline code, between more backticks than `text` has in a row."""
    line = printable(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return Verbatim(f"{fence} {line} {fence}" if "`" in line else f"`{line}`")


def row(cells: Iterable[object]) -> Verbatim:
    """Return a row of a Markdown table; cells are escaped, except `Verbatim` ones."""
    shown = (cell if isinstance(cell, Verbatim) else escaped(str(cell)) for cell in cells)
    return Verbatim(f"| {' | '.join(shown)} |")
