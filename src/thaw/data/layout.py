"""Where in a folder the classes of a data set are: in train/ and val/, or at its top."""

from collections.abc import Sequence
from pathlib import Path

from thaw.data.class_names import confusable_names
from thaw.data.walk import visible_folders
from thaw.errors import UserError
from thaw.pages.text import listed

_SPLIT_NAMES = ("train", "training", "val", "valid", "validation")


def layout(root: Path) -> tuple[list[str], list[Path], Path | None]:
    """Return the classes, the folders that hold them, and the one with test images.

    Raises:
        UserError: for folders that are no data set.

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
    """Return whether `root` is to have train/ and val/, rather than a folder per class."""
    names = find_classes(root) if root.is_dir() else []
    return len(names) < 2 or any(name in names and not _is_class(root, name, names) for name in ("train", "val"))


def has_test_beside_classes(root: Path) -> bool:
    """Return whether test/ in `root` holds one of the classes beside it; else it is a class like others."""
    names = find_classes(root)
    return "test" in names and not {*find_classes(root / "test")}.isdisjoint({*names} - {"test"})


def _is_class(root: Path, name: str, names: Sequence[str]) -> bool:
    """Return whether the one folder that is named like a split is a class of several: of vehicles, for example."""
    others = [other for other in names if other.casefold() not in (*_SPLIT_NAMES, "test")]
    alone = not any(other != name and other.casefold() in _SPLIT_NAMES for other in names)
    return alone and len(others) > 1 and not visible_folders(root / name)


def _refuse_other_roots(root: Path, classes: Sequence[str]) -> None:
    for folder in (root, *(root / name for name in classes)):
        names = find_classes(folder)
        named = [name for name in names if name.casefold() in _SPLIT_NAMES and not _is_class(folder, name, names)]
        if named:
            raise UserError(
                f"{folder} holds {listed(named)}, which is no class by its name; "
                f"data.root={root} needs train/ and val/, or nothing but a folder per class."
            )
    if len(classes) < 2:
        raise UserError(f"at least two classes (folders) are needed to tell apart in {root}, beside test/.")


def find_classes(root: Path) -> list[str]:
    """The visible folders in `root`, sorted: a class each.

    Raises:
        UserError: if `root` is not a folder.

    """
    if not root.is_dir():
        beside = sorted(path.name for path in root.parent.iterdir()) if root.parent.is_dir() else []
        there = f"{root.parent} holds {listed(beside)}" if beside else f"{root.parent} does not exist or is empty"
        raise UserError(
            f"there is no folder {root}: data.root needs train/ and val/ with a folder per class, "
            f"or nothing but a folder per class, of which Thaw draws validation images; {there}."
        )
    return visible_folders(root)


def aligned_classes(train: Path, val: Path) -> list[str]:
    """The class names of both splits.

    Raises:
        UserError: if the splits' classes differ or are fewer than two.

    """
    classes = find_classes(train)
    refuse_other_classes(train, classes, val)
    if len(classes) < 2:
        found = f"only {classes[0]!r}" if classes else "none"
        raise UserError(f"at least two classes (folders) are needed to tell apart in {train}, and there is {found}.")
    return classes


def refuse_other_classes(folder: Path, classes: Sequence[str], split: Path) -> None:
    """Compare the class folders of `split` with the `classes` of `folder`.

    Raises:
        UserError: if they differ, or there is no such split.

    """
    others = find_classes(split)
    refuse_confusable_names(folder, classes)
    differences = {folder: set(classes) - set(others), split: set(others) - set(classes)}
    told = " and ".join(f"{listed(sorted(names))} only in {place}" for place, names in differences.items() if names)
    if told:
        alike = "; ".join(confusable_names({*classes, *others}))
        raise UserError(
            f"{folder.name} and {split.name} must have the same class folders, but there is {told}"
            f"{alike and f' ({alike})'}."
        )


def refuse_confusable_names(folder: Path, classes: Sequence[str]) -> None:
    """Check that the names of a folder's classes can be told apart.

    Raises:
        UserError: for two that look the same.

    """
    told = next(confusable_names(classes), None)
    if told:
        raise UserError(
            f"two classes in {folder} cannot be told apart by their names: {told}. Rename one, or merge them."
        )
