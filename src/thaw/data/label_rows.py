"""The columns of a table of labels, and what its rows say about images."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from thaw.data.label_sets import SEPARATOR
from thaw.errors import UserError
from thaw.pages.text import listed

COLUMNS = {"path": ("path", "file_name"), "label": ("label",), "split": ("split",), "group": ("group",)}
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


def columns_of(header: Sequence[str], place: str) -> dict[str, int]:
    """Return the number of each column by its name in `COLUMNS`, and of each column that is a label.

    Raises:
        UserError: if a column is missing or cannot be used; the message contains `place`, the table.

    """
    names = [name.strip().lower() for name in header]
    found = {}
    for column, choices in COLUMNS.items():
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
        if SEPARATOR in name or name in COLUMNS or counts[name.lower()] > 1:
            reason = "is there twice" if counts[name.lower()] > 1 else "cannot be the name of a label"
            raise UserError(f"the header of {place}: {name!r} {reason}.")
    return found | labels


def _refuse_label(cell: str, where: str) -> None:
    if bad := _bad_labels(cell):
        raise UserError(f"{where}: the label {bad[0]!r} cannot be the name of a folder (it has no /, \\ or NUL).")


@lru_cache(1024)
def _bad_labels(cell: str) -> list[str]:
    """Return the labels of a cell that cannot be names of folders; cached, because most cells are alike."""
    labels = [part.strip() for part in cell.split(SEPARATOR)]
    return [name for name in labels if {"/", "\\", "\0"} & set(name) or name in (".", "..")]


def images_of(
    lines: Iterable[Sequence[object]], columns: dict[str, int], root: Path, place: str
) -> Iterator[LabelledImage]:
    """Yield an image for each of the rows `lines`, with its path relative to `root`. `columns` is from `columns_of`.

    Raises:
        UserError: if a row cannot be used; the message has the row's number and `place`, the table.

    """
    start, last = os.path.join(os.path.abspath(root), ""), max(columns.values())
    for number, line in enumerate(lines, start=2):
        if not any(line):
            continue
        if len(line) <= last:
            raise UserError(f"row {number} of {place} has {len(line)} of {last + 1} columns.")
        values = {name: _text(line[column]) for name, column in columns.items()}
        if not values["path"]:
            raise UserError(f"row {number} of {place} has no path.")
        path = _relative(values["path"], start)
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
        if _bad_labels(values["label"]):
            _refuse_label(values["label"], f"row {number} of {place}")
        return (values["label"],)
    found = []
    for name, value in values.items():
        if name in COLUMNS:
            continue
        truth = _TRUTH[value] if value in _TRUTH else _TRUTH.get(value.lower())
        if truth is None:
            raise UserError(
                f"row {number} of {place} has {value!r} in the column {name}, but without a column label, every column "
                f"besides {', '.join(COLUMNS)} is a label, with 1 or 0 in each row."
            )
        if truth:
            found.append(name)
    return tuple(sorted(found))


def _relative(path: str, start: str) -> str | None:
    """Return `path` relative to the folder `start`, which ends in /, or None if it is outside."""
    joined = os.path.normpath(path if os.path.isabs(path) else start + path)
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
