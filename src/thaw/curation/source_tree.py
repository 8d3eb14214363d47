"""List a folder of photographs: the images with their classes, and all other files."""

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from thaw.data.endings import is_image
from thaw.data.layout import refuse_confusable_names
from thaw.data.tabled_splits import tabled_images
from thaw.data.walk import is_hidden, visible_folders, walk
from thaw.errors import UserError
from thaw.pages.text import amount

SPLITS = ("train", "val", "test")
_ALL = "images"  # one class for all images that can have several, because checks of classes do not apply to them


@dataclass
class Tree:
    """Files in a folder; all paths are sorted and relative to `root`.

    `images` are the files with an image file extension, and their classes. `stray` are all other files. `repeated` are
    links that `walk` does not follow. `empty` are classes without images. If a table lists the images, `tabled` is
    True, and other files are not listed.
    """

    root: Path
    images: list[tuple[Path, str]] = field(default_factory=list)
    stray: list[Path] = field(default_factory=list)
    hidden: list[Path] = field(default_factory=list)
    repeated: list[Path] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    tabled: bool = False

    @property
    def classes(self) -> list[str]:
        return sorted({label for _, label in self.images} | set(self.empty))


def read_tree(root: Path, pattern: str | None = None) -> Tree:
    """List images by class. A class is a folder's name or, with a `pattern` such as `{class}.*`, part of a file name.

    Raises:
        UserError: if there are fewer than two classes, two names look the same, or `root` has train/ and val/.

    """
    tree = scan(root, pattern)
    if pattern is None:
        _refuse_divided(root)
    if len({label for _, label in tree.images}) < 2:
        how = f"names like {pattern}" if pattern else "folders with images in them"
        raise UserError(f"{root} has {amount(len(tree.classes), 'class')} ({how}); at least two are needed.")
    refuse_confusable_names(root, tree.classes)
    return tree


def tabled_trees(root: Path, table: Path) -> dict[str, Tree]:
    """Return the images of a table of labels by split, which is "" if the table has no splits.

    Raises:
        UserError: if the table cannot be used.

    """
    found = tabled_images(table, root)
    by_split = sorted(found.samples.items(), key=lambda item: ("", *SPLITS).index(item[0]))

    def name(label: int) -> str:
        return _ALL if found.label_sets.several else found.classes[label]

    return {
        split: Tree(root, [(Path(path).relative_to(root), name(label)) for path, label in samples], tabled=True)
        for split, samples in by_split
    }


def refuse_one_class(trees: Mapping[str, Tree]) -> None:
    """Raise UserError if the trees have images without one class each, because a table gives them several labels."""
    if {name for tree in trees.values() for name in tree.classes} == {_ALL}:
        raise UserError("--labels looks for wrong labels of images with one class each; leave it out.")


def _refuse_divided(root: Path) -> None:
    train, val = (set(visible_folders(root / name)) if (root / name).is_dir() else set() for name in SPLITS[:2])
    if train & val:
        raise UserError(f"{root} is divided into train and val already; choose one of them as SOURCE.")


def scan(root: Path, pattern: str | None = None, others: Collection[str] = ()) -> Tree:
    """List images by class, like `read_tree`, but allow any number of classes and skip the folders `others`."""
    if not root.is_dir():
        raise UserError(f"there is no folder {root}.")
    named = _compiled(pattern) if pattern else None
    found = walk(root)
    hidden, special, repeated = (
        [Path(path) for path in paths if path.partition(os.sep)[0] not in others]
        for paths in (found.hidden, found.special, found.repeated)
    )
    tree = Tree(root, stray=special, hidden=hidden, repeated=repeated)
    for path in (Path(folder, name) for folder, names in found.files.items() for name in names):
        label = _label(path, named)
        if label not in (None, *others) and is_image(path.name):
            tree.images.append((path, label))
        elif path.parts[0] not in others:
            tree.stray.append(path)
    tree.stray.sort()
    if named is None:
        known = {label for _, label in tree.images} | {*others}
        tree.empty = [name for name in visible_folders(root) if name not in known]
    return tree


def _label(path: Path, named: re.Pattern | None) -> str | None:
    if named is None:
        return path.parts[0] if len(path.parts) > 1 else None
    match = named.fullmatch(path.name)
    return match["name"] if match and not is_hidden(match["name"]) else None


def _compiled(pattern: str) -> re.Pattern:
    if pattern.count("{class}") != 1:
        raise UserError(
            f"--pattern {pattern} must contain {{class}} once; * matches anything else, as in '{{class}}.*'."
        )
    parts = [re.escape(part).replace(r"\*", ".*") for part in pattern.split("{class}")]
    return re.compile(parts[0] + "(?P<name>.+?)" + parts[1])
