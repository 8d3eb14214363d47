"""Read a table of image paths and labels, as CSV or Parquet."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path

from thaw.data.class_names import confusable_names
from thaw.data.label_sets import SEPARATOR
from thaw.data.table_file import table_content
from thaw.errors import UserError
from thaw.pages.text import listed

_COLUMNS = {"path": ("path", "file_name"), "label": ("label",), "split": ("split",), "group": ("group",)}
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    "test": "test",
}
_TRUTH = {
    **dict.fromkeys(("1", "1.0", "true", "yes"), True),
    **dict.fromkeys(("0", "0.0", "false", "no", ""), False),
}


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """A row of a table: `path` relative to the root, `split` "train", "val", "test" or "", `group` or "".

    `labels` are in alphabetical order. `number` is the row's number in a spreadsheet, in which the header is row 1.
    """

    path: str
    labels: tuple[str, ...]
    split: str
    group: str
    number: int


@dataclass(frozen=True)
class LabelTable:
    """The images of a table and the names of all labels. If `several`, an image can have several labels, or none.

    If `complete`, the table says of every label in `names`, and of no other label, whether an image has it.
    """

    images: list[LabelledImage]
    names: list[str]
    several: bool
    complete: bool


def read_label_table(table: Path, root: Path, for_training: bool = True) -> LabelTable:
    """Return the rows of `table`, each image once, in the order in which images are read from class folders.

    The columns are `path` (or `file_name`) relative to `root`, `label`, and optionally `split` and `group`. Other
    columns are ignored. An image has several labels if `label` has | between them. Without `label`, every other column
    is a label, with 1 for the images that have it and 0 for the others. A CSV file can be UTF-8 or UTF-16, with commas,
    semicolons, tabs or | between columns. If not `for_training`, a label can be rare or unused.

    Raises:
        UserError: if the table cannot be used; the message names the row.

    """
    place = f"data.table={table}"
    if not root.is_dir():
        raise UserError(f"there is no folder data.root={root}: the paths in {place} are relative to it.")
    header, lines = table_content(table, place)
    columns = _columns(header, place)
    several = complete = "label" not in columns
    images = _unique(_images(lines, columns, root, place), place)
    if not images:
        raise UserError(f"{place} has no rows below its header.")
    several = several or any(SEPARATOR in image.labels[0] for image in images)
    if several:
        images = [replace(image, labels=_parts(image.labels)) for image in images]
    _refuse_empty_labels(images, several, place)
    _refuse_missing_files(images, root, place)
    names = sorted({name for image in images for name in image.labels} | set(columns) - set(_COLUMNS))
    if for_training:
        _refuse_labels(images, names, place)
    return LabelTable(
        sorted(images, key=lambda image: (image.labels, *os.path.split(image.path))), names, several, complete
    )


def _parts(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Divide labels such as `cat|dog` into the labels that they consist of."""
    return tuple(sorted({part.strip() for label in labels for part in label.split(SEPARATOR)} - {""}))


def find_table(table: str | Path, root: Path, option: str = "data.table=") -> Path:
    """Return the path of `table`, which can be relative to the current folder or to `root`; errors name `option`."""
    path = Path(table).expanduser()
    places = [path] if path.is_absolute() else [path, root / path]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise UserError(f"there is no file {option}{table}, neither in the current folder nor in {root}.")
    return found


def _columns(header: Sequence[str], place: str) -> dict[str, int]:
    names = [name.strip().lower() for name in header]
    found = {}
    for column, choices in _COLUMNS.items():
        given = [name for name in choices if name in names]
        if given:
            found[column] = names.index(given[0])
    if "path" not in found:
        raise UserError(f"{place} has no column path or file_name; its columns are {listed(header) or 'none'}.")
    if "label" in found:
        return found
    named = [(name.strip(), number) for number, name in enumerate(header) if number not in found.values()]
    labels = {name: number for name, number in named if name}  # pandas writes its index in a column without a name
    if len(labels) < 2:
        raise UserError(
            f"{place} needs a column label, or at least two columns with 0 and 1, one per label; its columns are "
            f"{listed(header)}."
        )
    counts = Counter(name.lower() for name, _ in named if name)
    for name in labels:
        _refuse_label(name, f"the header of {place}")
        if SEPARATOR in name or name in _COLUMNS or counts[name.lower()] > 1:
            reason = "is there twice" if counts[name.lower()] > 1 else "cannot be the name of a label"
            raise UserError(f"the header of {place}: {name!r} {reason}.")
    return found | labels


def _refuse_label(name: str, where: str) -> None:
    if {"/", "\\", "\0"} & set(name) or name in (".", ".."):
        raise UserError(f"{where}: the label {name!r} cannot be the name of a folder (it has no /, \\ or NUL).")


def _images(
    lines: Iterable[Sequence[object]], columns: dict[str, int], root: Path, place: str
) -> Iterator[LabelledImage]:
    real_root, last = os.path.abspath(root), max(columns.values())
    for number, line in enumerate(lines, start=2):
        if not any(line):
            continue
        if len(line) <= last:
            raise UserError(f"row {number} of {place} has {len(line)} of {last + 1} columns.")
        values = {name: _text(line[column]) for name, column in columns.items()}
        if not values["path"]:
            raise UserError(f"row {number} of {place} has no path.")
        path = _relative(values["path"], real_root)
        if path is None:
            raise UserError(f"row {number} of {place}: {values['path']} is outside of data.root={root}.")
        split = _split(values, number, place)
        yield LabelledImage(path, _labels(values, number, place), split, values.get("group", ""), number)


def _text(cell: object) -> str:
    """Return the text of a cell; a list of labels in a Parquet file is joined."""
    if isinstance(cell, str):
        return cell.strip()
    if isinstance(cell, list):
        return SEPARATOR.join(map(_text, cell))
    return "" if cell is None else str(cell).strip()


def _labels(values: dict[str, str], number: int, place: str) -> tuple[str, ...]:
    """Return the cell of the column `label`, or the names of the label columns that have 1."""
    if "label" in values:
        for part in values["label"].split(SEPARATOR):
            _refuse_label(part.strip(), f"row {number} of {place}")
        return (values["label"],)
    found = []
    for name, value in values.items():
        if name in _COLUMNS:
            continue
        truth = _TRUTH[value] if value in _TRUTH else _TRUTH.get(value.lower())
        if truth is None:
            raise UserError(
                f"row {number} of {place} has {value!r} in the column {name}, but without a column label, every column "
                f"besides {', '.join(_COLUMNS)} is a label, with 1 or 0 in each row."
            )
        if truth:
            found.append(name)
    return tuple(sorted(found))


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
        both = before, image
        for what in ("labels", "split", "group"):
            old, new = (SEPARATOR.join(value) if what == "labels" else value for value in map(attrgetter(what), both))
            if old != new:
                raise UserError(
                    f"rows {before.number} and {image.number} of {place} give {image.path} the {what.rstrip('s')}s "
                    f"{old!r} and {new!r}."
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


def _refuse_empty_labels(images: Sequence[LabelledImage], several: bool, place: str) -> None:
    empty = next((image for image in images if image.labels == ("",)), None)
    if empty and not several:
        raise UserError(f"row {empty.number} of {place} has no label.")


def _refuse_labels(images: Sequence[LabelledImage], names: Sequence[str], place: str) -> None:
    if not any(image.labels for image in images):
        raise UserError(f"{place}: no image has a label.")
    counts = Counter(name for image in images for name in image.labels)
    if unused := [name for name in names if not counts[name]]:
        raise UserError(f"{place}: no image has the label {unused[0]!r}; remove its column.")
    single = next((image for image in images for name in image.labels if counts[name] == 1), None)
    if single:
        name = next(name for name in single.labels if counts[name] == 1)
        raise UserError(
            f"row {single.number} of {place}: the label {name!r} occurs once, but a class needs an image for "
            "training and one for validation."
        )
    if len(names) < 2:
        raise UserError(f"{place} needs at least two labels, but has only {names[0]!r}.")
    if sentence := next(confusable_names(names), None):
        raise UserError(f"two labels in {place} are confusable: {sentence}. Rename one, or merge them.")
