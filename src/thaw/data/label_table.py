"""Read a table of image paths and labels, as CSV or Parquet."""

import codecs
import csv
import io
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from thaw.data.class_names import confusable_names
from thaw.errors import UserError
from thaw.pages.text import listed

_COLUMNS = {"path": ("path", "file_name"), "label": ("label",), "split": ("split",), "group": ("group",)}
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    "test": "test",
}
_DELIMITERS = (",", ";", "\t", "|")
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """A row of a table: `path` relative to the root, `split` "train", "val", "test" or "", `group` or "".

    `number` is the row's number in a spreadsheet, in which the header is row 1.
    """

    path: str
    label: str
    split: str
    group: str
    number: int


def read_label_table(table: Path, root: Path) -> list[LabelledImage]:
    """Return the rows of `table`, each image once, in the order in which images are read from class folders.

    The columns are `path` (or `file_name`) relative to `root`, `label`, and optionally `split` and `group`. Other
    columns are ignored. A CSV file can be UTF-8 or UTF-16, with commas, semicolons, tabs or | between columns.

    Raises:
        UserError: if the table cannot be used; the message names the row.

    """
    place = f"data.table={table}"
    if not root.is_dir():
        raise UserError(f"there is no folder data.root={root}: the paths in {place} are relative to it.")
    header, lines = _content(table, place)
    columns = _columns(header, place)
    images = _unique(_images(lines, columns, root, place), place)
    if not images:
        raise UserError(f"{place} has no rows below its header.")
    _refuse_missing_files(images, root, place)
    _refuse_labels(images, place)
    return sorted(images, key=lambda image: (image.label, *os.path.split(image.path)))


def find_table(table: str | Path, root: Path) -> Path:
    """Return the path of `table`, which can be relative to the current folder or to `root`."""
    path = Path(table).expanduser()
    places = [path] if path.is_absolute() else [path, root / path]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise UserError(f"there is no file data.table={table}, neither in the current folder nor in data.root={root}.")
    return found


def _content(table: Path, place: str) -> tuple[Sequence[str], Iterable[Sequence[object]]]:
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


def _columns(header: Sequence[str], place: str) -> dict[str, int]:
    names = [name.strip().lower() for name in header]
    found = {}
    for column, choices in _COLUMNS.items():
        given = [name for name in choices if name in names]
        if given:
            found[column] = names.index(given[0])
    for column in ("path", "label"):
        if column not in found:
            raise UserError(
                f"{place} has no column {' or '.join(_COLUMNS[column])}; its columns are {listed(header) or 'none'}."
            )
    return found


def _images(
    lines: Iterable[Sequence[object]], columns: dict[str, int], root: Path, place: str
) -> Iterator[LabelledImage]:
    real_root, last = os.path.abspath(root), max(columns.values())
    for number, line in enumerate(lines, start=2):
        if not any(line):
            continue
        if len(line) <= last:
            raise UserError(f"row {number} of {place} has {len(line)} of {last + 1} columns.")
        values = {name: "" if line[column] is None else str(line[column]).strip() for name, column in columns.items()}
        for name in ("path", "label"):
            if not values[name]:
                raise UserError(f"row {number} of {place} has no {name}.")
        if {"/", "\\", "\0"} & set(values["label"]) or values["label"] in (".", ".."):
            raise UserError(f"row {number} of {place}: the label {values['label']!r} cannot be the name of a folder.")
        path = _relative(values["path"], real_root)
        if path is None:
            raise UserError(f"row {number} of {place}: {values['path']} is outside of data.root={root}.")
        yield LabelledImage(path, values["label"], _split(values, number, place), values.get("group", ""), number)


def _relative(path: str, real_root: str) -> str | None:
    """Return `path` relative to `real_root`, or None if it is outside."""
    start = os.path.join(real_root, "")
    joined = os.path.normpath(start + path if not os.path.isabs(path) else path)
    return joined.removeprefix(start) if joined.startswith(start) else None


def _split(values: dict[str, str], number: int, place: str) -> str:
    if "split" not in values:
        return ""
    found = _SPLITS.get(values["split"].lower())
    if found is None:
        raise UserError(
            f"row {number} of {place} has the split {values['split']!r}; the choices are train, val and test."
        )
    return found


def _unique(images: Iterable[LabelledImage], place: str) -> list[LabelledImage]:
    found: dict[str, LabelledImage] = {}
    for image in images:
        before = found.setdefault(image.path, image)
        for what in ("label", "split", "group"):
            if (old := getattr(before, what)) != (new := getattr(image, what)):
                raise UserError(
                    f"rows {before.number} and {image.number} of {place} give {image.path} the {what}s {old!r} and "
                    f"{new!r}."
                )
    return list(found.values())


def _refuse_missing_files(images: Sequence[LabelledImage], root: Path, place: str) -> None:
    present: dict[str, set[str]] = {}  # reading each folder once is faster than asking for each file
    for image in images:
        folder, name = os.path.split(image.path)
        if folder not in present:
            try:
                present[folder] = set(os.listdir(root / folder))
            except OSError:
                present[folder] = set()
        if name not in present[folder]:
            hint = "; write / between folders, not \\" if "\\" in image.path else ""
            raise UserError(f"row {image.number} of {place}: there is no file {root / image.path}{hint}.")


def _refuse_labels(images: Sequence[LabelledImage], place: str) -> None:
    counts = Counter(image.label for image in images)
    single = next((image for image in images if counts[image.label] == 1), None)
    if single:
        raise UserError(
            f"row {single.number} of {place}: the label {single.label!r} occurs once, but a class needs an image for "
            "training and one for validation."
        )
    if len(counts) < 2:
        raise UserError(f"{place} needs at least two labels, but has only {next(iter(counts))!r}.")
    if sentence := next(confusable_names(list(counts)), None):
        raise UserError(f"two labels in {place} are confusable: {sentence}. Rename one, or merge them.")
