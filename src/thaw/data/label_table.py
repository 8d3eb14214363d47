"""Read a table of image paths and labels, as CSV or Parquet."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path

from thaw.data.class_names import confusable_names
from thaw.data.label_rows import COLUMNS, LabelledImage, columns_of, images_of
from thaw.data.label_sets import SEPARATOR
from thaw.data.table_file import table_content
from thaw.errors import UserError


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
    place = f"{'data.table=' if for_training else '--table '}{table}"
    if not root.is_dir():
        raise UserError(f"there is no folder data.root={root}: the paths in {place} are relative to it.")
    header, lines = table_content(table, place)
    columns = columns_of(header, place)
    several = complete = "label" not in columns
    images = _unique(images_of(lines, columns, root, place), place)
    if not images:
        raise UserError(f"{place} has no rows below its header.")
    several = several or any(SEPARATOR in image.labels[0] for image in images)
    if several:
        images = [replace(image, labels=_parts(image.labels)) for image in images]
    _refuse_empty_labels(images, several, place)
    _refuse_missing_files(images, root, place)
    names = sorted({name for image in images for name in image.labels} | set(columns) - set(COLUMNS))
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


def _unique(images: Iterable[LabelledImage], place: str) -> list[LabelledImage]:
    found: dict[str, LabelledImage] = {}
    for image in images:
        before = found.setdefault(image.path, image)
        if before is image:
            continue
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
