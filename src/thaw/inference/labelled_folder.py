"""A folder of labelled images that a trained model has not seen: one folder per class of the model's."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thaw.data.class_names import confusable_names
from thaw.data.endings import EXTENSIONS, what_to_install
from thaw.data.folders import Sample, class_samples
from thaw.data.walk import visible_folders, walk
from thaw.errors import UserError
from thaw.pages.text import listed

_SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class LabelledFolder:
    """`samples` are the images in `root` with the index of their class in `classes`, in the order of a data set.

    `missing` names the classes without a file, `ignored` counts visible files that do not end as images do or lie
    outside of the class folders.
    """

    root: Path
    classes: Sequence[str]
    samples: Sequence[Sample]
    missing: Sequence[str]
    ignored: int


def read_labelled(root: Path, classes: Sequence[str]) -> LabelledFolder:
    """Whatever is named with a dot first is not looked at; no image is opened.

    Raises:
        UserError: if `root` is not a folder, holds a folder that is none of `classes`, or no file named like an image.

    """
    if not root.is_dir():
        raise UserError(
            f"{root} is {'a file' if root.exists() else 'not there'}: ROOT is a folder with {_wanted(classes)}."
        )
    _refuse_others(root, classes)
    files = walk(root)
    samples = class_samples(files, classes)
    if not samples:
        needed = what_to_install(files.paths())
        raise UserError(
            f"there is no image in {root}: ROOT is a folder with {_wanted(classes)}, and images in them that end in "
            f"{', '.join(EXTENSIONS)}{needed and f'; {needed}'}."
        )
    labels = {label for _, label in samples}
    missing = [name for index, name in enumerate(classes) if index not in labels]
    return LabelledFolder(root, classes, samples, missing, len(files.paths()) - len(samples))


def _refuse_others(root: Path, classes: Sequence[str]) -> None:
    others = [name for name in visible_folders(root) if name not in classes]
    if not others:
        return
    splits = [name for name in _SPLITS if name in others and set(visible_folders(root / name)) & set(classes)]
    if splits:
        choices = " or ".join(str(root / name) for name in splits)
        raise UserError(f"{root} holds {listed(splits)} and no class folders: name one of them as ROOT, {choices}.")
    what = "is no class" if len(others) == 1 else "are no classes"
    alike = "; ".join(confusable_names({*others, *classes}))
    raise UserError(
        f"{listed(map(repr, others))} in {root} {what} of the model's, which are {_names(classes)}"
        f"{alike and f' ({alike})'}."
    )


def _wanted(classes: Sequence[str]) -> str:
    return f"a folder for each of the model's classes, {_names(classes)}"


def _names(classes: Sequence[str]) -> str:
    return listed(map(repr, classes))
