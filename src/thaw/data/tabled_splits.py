"""The images of a table of labels, by split."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from thaw.data.label_rows import LabelledImage
from thaw.data.label_sets import ONE_CLASS, LabelSets
from thaw.data.label_table import LabelTable, find_table, read_label_table
from thaw.errors import UserError
from thaw.pages.text import listed


@dataclass(frozen=True)
class TabledImages:
    """Samples (path, label) by split: "train", "val" and "test", or "" for images that Thaw has to divide.

    `label_sets` says which classes a label stands for. `groups` maps paths to groups, which stay together in splits
    and folds; images without a group are missing.
    """

    classes: list[str]
    samples: dict[str, list[tuple[str, int]]]
    label_sets: LabelSets = ONE_CLASS
    groups: dict[str, str] = field(default_factory=dict)


def tabled_images(table: str | Path, root: Path) -> TabledImages:
    """Return the images of a table; `thaw.data.label_table.read_label_table` explains its columns.

    Raises:
        UserError: if the table cannot be used, a group is in several splits, or a split lacks a class.

    """
    found = find_table(table, root)
    read = read_label_table(found, root)
    place = f"data.table={found}"
    _refuse_divided_groups(read.images, place)
    label_sets, labels = _label_sets(read)
    start = "" if str(root) == "." else os.path.join(root, "")  # as for images from folders
    samples: dict[str, list[tuple[str, int]]] = {}
    for image in read.images:
        samples.setdefault(image.split, []).append((start + image.path, labels[image.labels]))
    _refuse_missing_classes(samples, read.names, label_sets, place)
    groups = {start + image.path: image.group for image in read.images if image.group}
    return TabledImages(read.names, samples, label_sets, groups)


def _label_sets(table: LabelTable) -> tuple[LabelSets, dict[tuple[str, ...], int]]:
    """Return the label sets, and the number of the label that stands for given names."""
    place = {name: number for number, name in enumerate(table.names)}
    if not table.several:
        return ONE_CLASS, {(name,): number for name, number in place.items()}
    sets = sorted({image.labels for image in table.images})
    members = np.zeros((len(sets), len(place)), bool)
    for number, names in enumerate(sets):
        members[number, [place[name] for name in names]] = True
    return LabelSets(members), {names: number for number, names in enumerate(sets)}


def _refuse_divided_groups(images: Sequence[LabelledImage], place: str) -> None:
    first: dict[str, LabelledImage] = {}
    for image in images:
        before = first.setdefault(image.group, image)
        if image.group and before.split != image.split:
            raise UserError(
                f"rows {before.number} and {image.number} of {place} put the group {image.group!r} into {before.split} "
                f"and {image.split}; a group must be in one split."
            )


def _refuse_missing_classes(
    samples: dict[str, list[tuple[str, int]]], classes: Sequence[str], label_sets: LabelSets, place: str
) -> None:
    if "" not in samples and "train" not in samples:
        raise UserError(f"{place} has no row with the split train.")
    for split in ("train", "val"):
        if split in samples:
            present = label_sets.counts(label for _, label in samples[split])
            missing = [name for label, name in enumerate(classes) if label not in present]
            if missing:
                raise UserError(f"{place} has no {split} images of {listed(map(repr, missing))}.")
