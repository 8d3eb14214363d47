"""The images of a table of labels, by split."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from thaw.data.label_table import LabelledImage, find_table, read_label_table
from thaw.errors import UserError
from thaw.pages.text import listed


@dataclass(frozen=True)
class TabledImages:
    """Samples (path, class index) by split: "train", "val" and "test", or "" for images that Thaw has to divide.

    `groups` maps paths to groups, which stay together in splits and folds; images without a group are missing.
    """

    classes: list[str]
    samples: dict[str, list[tuple[str, int]]]
    groups: dict[str, str] = field(default_factory=dict)


def tabled_images(table: str | Path, root: Path) -> TabledImages:
    """Return the images of a table; `thaw.data.label_table.read_label_table` explains its columns.

    Raises:
        UserError: if the table cannot be used, a group is in several splits, or a split lacks a class.

    """
    found = find_table(table, root)
    images = read_label_table(found, root)
    place = f"data.table={found}"
    _refuse_divided_groups(images, place)
    classes = sorted({image.label for image in images})
    labels = {name: label for label, name in enumerate(classes)}
    start = "" if str(root) == "." else os.path.join(root, "")  # as for images from folders
    samples: dict[str, list[tuple[str, int]]] = {}
    for image in images:
        samples.setdefault(image.split, []).append((start + image.path, labels[image.label]))
    _refuse_missing_classes(samples, classes, place)
    return TabledImages(classes, samples, {start + image.path: image.group for image in images if image.group})


def _refuse_divided_groups(images: Sequence[LabelledImage], place: str) -> None:
    first: dict[str, LabelledImage] = {}
    for image in images:
        before = first.setdefault(image.group, image)
        if image.group and before.split != image.split:
            raise UserError(
                f"rows {before.number} and {image.number} of {place} put the group {image.group!r} into {before.split} "
                f"and {image.split}; a group must be in one split."
            )


def _refuse_missing_classes(samples: dict[str, list[tuple[str, int]]], classes: Sequence[str], place: str) -> None:
    if "" not in samples and "train" not in samples:
        raise UserError(f"{place} has no row with the split train.")
    for split in ("train", "val"):
        if split in samples:
            present = {label for _, label in samples[split]}
            missing = [name for label, name in enumerate(classes) if label not in present]
            if missing:
                raise UserError(f"{place} has no {split} images of {listed(map(repr, missing))}.")
