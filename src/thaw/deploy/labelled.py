"""A folder of labelled images that a trained model has not seen: one folder per class of the model's."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

from thaw.data.folders import Sample, listed
from thaw.errors import UserError

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
    indices = {name: index for index, name in enumerate(classes)}
    found = make_dataset(str(root), indices, IMG_EXTENSIONS, allow_empty=True)
    samples = [(path, label) for path, label in found if _is_shown(root, path) and _is_file(path)]
    if not samples:
        raise UserError(
            f"there is no image in {root}: ROOT is a folder with {_wanted(classes)}, and images in them that end in "
            f"{', '.join(IMG_EXTENSIONS)}."
        )
    labels = {label for _, label in samples}
    missing = [name for index, name in enumerate(classes) if index not in labels]
    return LabelledFolder(root, classes, samples, missing, _visible_files(root) - len(samples))


def _refuse_others(root: Path, classes: Sequence[str]) -> None:
    others = [name for name in _folders(root) if name not in classes]
    if not others:
        return
    splits = [name for name in _SPLITS if name in others and set(_folders(root / name)) & set(classes)]
    if splits:
        choices = " or ".join(str(root / name) for name in splits)
        raise UserError(f"{root} holds {listed(splits)} and no class folders: name one of them as ROOT, {choices}.")
    what = "is no class" if len(others) == 1 else "are no classes"
    raise UserError(f"{listed(map(repr, others))} in {root} {what} of the model's, which are {_names(classes)}.")


def _wanted(classes: Sequence[str]) -> str:
    return f"a folder for each of the model's classes, {_names(classes)}"


def _names(classes: Sequence[str]) -> str:
    return listed(map(repr, classes))


def _folders(root: Path) -> list[str]:
    try:
        return sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise UserError(f"{root} cannot be looked into: {error.strerror or error}.") from error


def _is_shown(root: Path, path: str) -> bool:
    return not any(part.startswith(".") for part in Path(path).relative_to(root).parts)


def _is_file(path: str) -> bool:
    """Or a link to what is gone, which is a broken image; opening a pipe would wait for ever."""
    return os.path.isfile(path) or not os.path.exists(path)


def _visible_files(root: Path) -> int:
    count = 0
    for _, folders, names in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        count += sum(not name.startswith(".") for name in names)
    return count
