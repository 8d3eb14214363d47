"""List labelled images for a trained model, in a folder with one subfolder per class, or in a table."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thaw.data.class_names import confusable_names
from thaw.data.endings import EXTENSIONS, what_to_install
from thaw.data.folders import Sample, class_samples
from thaw.data.label_sets import ONE_CLASS, LabelSets
from thaw.data.label_table import find_table, read_label_table
from thaw.data.walk import visible_folders, walk
from thaw.errors import UserError
from thaw.inference.trained_model import TrainedModel
from thaw.pages.text import listed

_SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class LabelledFolder:
    """Labelled images in `root`; each of `samples` is a path and a label, which `label_sets` explains.

    `missing` are the classes without images. `ignored` is the number of visible files that have no image file
    extension or are outside the class folders.
    """

    root: Path
    classes: Sequence[str]
    samples: Sequence[Sample]
    missing: Sequence[str]
    ignored: int
    label_sets: LabelSets = ONE_CLASS


def read_labelled(root: Path, classes: Sequence[str]) -> LabelledFolder:
    """List the images in the class folders of `root`, except hidden files, without opening them.

    Raises:
        UserError: if `root` is not a folder, contains a folder that is not in `classes`, or contains no image.

    """
    if not root.is_dir():
        fault = "is a file" if root.exists() else "does not exist"
        raise UserError(f"ROOT={root} {fault}. ROOT must be a folder with {_wanted(classes)}.")
    _refuse_others(root, classes)
    files = walk(root)
    samples = class_samples(files, classes)
    if not samples:
        needed = what_to_install(files.paths())
        raise UserError(
            f"there is no image in {root}. ROOT must be a folder with {_wanted(classes)}. The names of images "
            f"end in {', '.join(EXTENSIONS)}{needed and f'; {needed}'}."
        )
    labels = {label for _, label in samples}
    missing = [name for index, name in enumerate(classes) if index not in labels]
    return LabelledFolder(root, classes, samples, missing, len(files.paths()) - len(samples))


def read_labelled_table(root: Path, table: Path, split: str | None, model: TrainedModel) -> LabelledFolder:
    """List the images of a table of labels; `split` selects rows, and is needed if the table has splits.

    Raises:
        UserError: if the table cannot be used, or does not fit the model.

    """
    found = find_table(table, root, "--table ")
    read = read_label_table(found, root, for_training=False)
    if read.several and not model.several:
        raise UserError(
            f"--table {found} gives images several labels, but the images of the model have one class each."
        )
    others = [name for name in read.names if name not in model.classes]
    if others:
        what = "is not a class" if len(others) == 1 else "are not classes"
        raise UserError(
            f"{listed(map(repr, others))} in --table {found} {what} of the model. Its classes are "
            f"{_names(model.classes)}."
        )
    lacking = [name for name in model.classes if read.complete and name not in read.names]
    if lacking:
        raise UserError(f"--table {found} has no column for {listed(map(repr, lacking))}, classes of the model.")
    images = [image for image in read.images if not split or image.split == split]
    if (not split and any(image.split for image in read.images)) or not images:
        splits = sorted({image.split for image in read.images if image.split})
        choices = f"choose --split {' or '.join(splits)}" if splits else "leave --split out"
        raise UserError(
            f"--split {split} has no image in {found}: {choices}." if split else f"{found} has splits: {choices}."
        )
    if not any(image.labels for image in images):
        raise UserError(f"no image in --table {found} has a label, so there is nothing to measure.")
    place = {name: number for number, name in enumerate(model.classes)}
    members = np.zeros((len(images), len(place)), bool)
    for number, image in enumerate(images):
        members[number, [place[name] for name in image.labels]] = True
    labels = range(len(images)) if model.several else members.argmax(1).tolist()
    samples = [(os.path.join(root, image.path), label) for image, label in zip(images, labels, strict=True)]
    missing = [name for name, n in zip(model.classes, members.sum(0), strict=True) if not n]
    return LabelledFolder(root, model.classes, samples, missing, 0, LabelSets(members) if model.several else ONE_CLASS)


def _refuse_others(root: Path, classes: Sequence[str]) -> None:
    others = [name for name in visible_folders(root) if name not in classes]
    if not others:
        return
    splits = [name for name in _SPLITS if name in others and set(visible_folders(root / name)) & set(classes)]
    if splits:
        choices = " or ".join(str(root / name) for name in splits)
        raise UserError(f"ROOT={root} has {listed(splits)} in place of class folders; choose ROOT={choices}.")
    what = "is not a class" if len(others) == 1 else "are not classes"
    alike = "; ".join(confusable_names({*others, *classes}))
    raise UserError(
        f"{listed(map(repr, others))} in {root} {what} of the model. Its classes are {_names(classes)}"
        f"{alike and f' ({alike})'}."
    )


def _wanted(classes: Sequence[str]) -> str:
    return f"a folder for each of the model's classes, {_names(classes)}"


def _names(classes: Sequence[str]) -> str:
    return listed(map(repr, classes))
