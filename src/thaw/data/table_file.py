"""Read the cells of a table from a CSV or Parquet file."""

import codecs
import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from thaw.errors import UserError

_DELIMITERS = (",", ";", "\t", "|")
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def table_content(table: Path, place: str) -> tuple[Sequence[str], Iterable[Sequence[object]]]:
    """Return the names of the columns, and the rows of cells. A CSV file can be UTF-8 or UTF-16; see `_DELIMITERS`.

    Raises:
        UserError: if the file is neither CSV nor Parquet; the message contains `place`.

    """
    if table.suffix.lower() == ".parquet":
        return _parquet(table, place)
    text = _decoded(table.read_bytes(), place)
    if text.lower().startswith("sep="):  # a line for Excel
        text = text.partition("\n")[2]
    first = text[: text.find("\n") + 1 or len(text)]
    delimiter = max(_DELIMITERS, key=first.count)
    rows = _rows(text, delimiter, place)
    return next(rows, []), rows


def _rows(text: str, delimiter: str, place: str) -> Iterator[list[str]]:
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        yield from rows
    except csv.Error as error:
        raise UserError(f"line {rows.line_num} of {place} is not CSV: {error}.") from error


def _decoded(content: bytes, place: str) -> str:
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in content[:64]:  # UTF-16 without a byte order mark
        encoding = "utf-16-le" if content[1:2] == b"\0" else "utf-16-be"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(f"{place} is neither UTF-8 nor UTF-16; in a spreadsheet, save it as CSV UTF-8.") from error


def _parquet(table: Path, place: str) -> tuple[Sequence[str], Iterable[Sequence[object]]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise UserError(f"{place} needs the package pyarrow: pip install -e '.[table]'.") from error
    try:
        content = parquet.read_table(table)
    except ArrowException as error:
        raise UserError(f"{place} is not a Parquet file, or it is damaged.") from error
    return content.column_names, zip(*(column.to_pylist() for column in content.columns), strict=True)
