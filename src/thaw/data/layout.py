"""Recognise the layout of a data set: class folders in train/ and val/, or class folders only."""

from collections.abc import Sequence
from pathlib import Path

from thaw.data.class_names import confusable_names
from thaw.data.walk import visible_folders
from thaw.errors import UserError
from thaw.pages.text import listed

_SPLIT_NAMES = ("train", "training", "val", "valid", "validation")


def layout(root: Path) -> tuple[list[str], list[Path], Path | None]:
    """Return the class names, the folders that contain class folders, and the folder of test images (or None).

    Raises:
        UserError: if `root` is not a valid data set.

    """
    train, val, test = (root / name for name in ("train", "val", "test"))
    names = find_classes(root) if root.is_dir() else []
    if is_divided(root):
        classes, folders = aligned_classes(train, val), [train, val]
    else:
        classes, folders = [name for name in names if name != "test" or not has_test_beside_classes(root)], [root]
        _refuse_other_roots(root, classes)
        refuse_confusable_names(root, classes)
    if not test.is_dir() or (folders == [root] and "test" in classes):
        return classes, folders, None
    refuse_other_classes(folders[0], classes, test)
    return classes, folders, test


def is_divided(root: Path) -> bool:
    """Return whether `root` looks as if it should contain train/ and val/ rather than one folder per class."""
    names = find_classes(root) if root.is_dir() else []
    return len(names) < 2 or any(name in names and not _is_class(root, name, names) for name in ("train", "val"))


def has_test_beside_classes(root: Path) -> bool:
    """Return whether `root`/test contains a folder named like a class in `root`; if not, test is itself a class."""
    names = find_classes(root)
    return "test" in names and not {*find_classes(root / "test")}.isdisjoint({*names} - {"test"})


def _is_class(root: Path, name: str, names: Sequence[str]) -> bool:
    """Return whether a folder named like a split is really a class, for example `train` beside `car` and `ship`."""
    others = [other for other in names if other.casefold() not in (*_SPLIT_NAMES, "test")]
    alone = not any(other != name and other.casefold() in _SPLIT_NAMES for other in names)
    return alone and len(others) > 1 and not visible_folders(root / name)


def _refuse_other_roots(root: Path, classes: Sequence[str]) -> None:
    for folder in (root, *(root / name for name in classes)):
        names = find_classes(folder)
        named = [name for name in names if name.casefold() in _SPLIT_NAMES and not _is_class(folder, name, names)]
        if named:
            raise UserError(
                f"{folder} holds folders named like splits, not like classes: {listed(named)}. "
                f"data.root={root} needs train/ and val/, or only class folders."
            )
    if len(classes) < 2:
        raise UserError(f"{root} needs at least two class folders besides test/.")


def find_classes(root: Path) -> list[str]:
    """Return the sorted names of the visible folders in `root`; raise UserError if there is no such folder."""
    if not root.is_dir():
        beside = sorted(path.name for path in root.parent.iterdir()) if root.parent.is_dir() else []
        there = f"{root.parent} holds {listed(beside)}" if beside else f"{root.parent} does not exist or is empty"
        raise UserError(
            f"there is no folder {root}: {there}. data.root needs train/ and val/ with one folder per class, "
            "or only class folders; Thaw then chooses validation images at random."
        )
    return visible_folders(root)


def aligned_classes(train: Path, val: Path) -> list[str]:
    """Return the class names; raise UserError if the two splits have different classes, or fewer than two classes."""
    classes = find_classes(train)
    refuse_other_classes(train, classes, val)
    if len(classes) < 2:
        found = f"only {classes[0]!r}" if classes else "none"
        raise UserError(f"{train} needs at least two class folders, but there is {found}.")
    return classes


def refuse_other_classes(folder: Path, classes: Sequence[str], split: Path) -> None:
    """Raise UserError if `split` does not exist, or its class folders differ from `classes`, the ones in `folder`."""
    others = find_classes(split)
    refuse_confusable_names(folder, classes)
    differences = {folder: set(classes) - set(others), split: set(others) - set(classes)}
    found = " and ".join(f"{listed(sorted(names))} only in {place}" for place, names in differences.items() if names)
    if found:
        alike = "; ".join(confusable_names({*classes, *others}))
        raise UserError(
            f"{folder.name} and {split.name} must have the same class folders, but they differ: {found}"
            f"{alike and f' ({alike})'}."
        )


def refuse_confusable_names(folder: Path, classes: Sequence[str]) -> None:
    """Raise UserError if two class names in a folder look the same."""
    sentence = next(confusable_names(classes), None)
    if sentence:
        raise UserError(f"two classes in {folder} have confusable names: {sentence}. Rename one, or merge them.")
