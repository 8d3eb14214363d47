"""What lies in a folder of photographs: files by class, and what is beside them."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from thaw.data.images import EXTENSIONS
from thaw.errors import UserError

SPLITS = ("train", "val", "test")


@dataclass
class Tree:
    """All paths are relative to `root`, and sorted; `images` are files that end like images, with their class."""

    root: Path
    images: list[tuple[Path, str]] = field(default_factory=list)
    stray: list[Path] = field(default_factory=list)
    hidden: list[Path] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)

    @property
    def classes(self) -> list[str]:
        return sorted({label for _, label in self.images} | set(self.empty))


def read_tree(root: Path, pattern: str | None = None) -> Tree:
    """A folder per class; with a `pattern` such as `{class}.*` classes are in the names of the files.

    Raises:
        UserError: for a folder without classes, or a pattern that no file or only one class fits.

    """
    tree = scan(root, pattern)
    if len({label for _, label in tree.images}) < 2:
        how = f"names like {pattern}" if pattern else "folders with images in them"
        raise UserError(f"{root} has {len(tree.classes)} classes ({how}), and at least two are needed.")
    return tree


def scan(root: Path, pattern: str | None = None) -> Tree:
    """As `read_tree`, for a folder with any number of classes."""
    if not root.is_dir():
        raise UserError(f"there is no folder {root}.")
    named = _compiled(pattern) if pattern else None
    tree = Tree(root)
    for path in _files(root, tree.hidden):
        label = _label(path, named)
        if label is None or path.suffix.lower() not in EXTENSIONS:
            tree.stray.append(path)
        else:
            tree.images.append((path, label))
    if named is None:
        found = {label for _, label in tree.images}
        tree.empty = sorted(name for name in _visible_folders(root) if name not in found)
    return tree


def _label(path: Path, named: re.Pattern | None) -> str | None:
    if named is None:
        return path.parts[0] if len(path.parts) > 1 else None
    match = named.fullmatch(path.name)
    return match["name"] if match else None


def _compiled(pattern: str) -> re.Pattern:
    if pattern.count("{class}") != 1:
        raise UserError(f"--pattern {pattern} must hold {{class}} once, and * for anything else, as in '{{class}}.*'.")
    parts = [re.escape(part).replace(r"\*", ".*") for part in pattern.split("{class}")]
    return re.compile(parts[0] + "(?P<name>.+?)" + parts[1])


def _files(root: Path, hidden: list[Path]) -> Iterator[Path]:
    """All visible files below `root`, as relative paths in order; hidden files and folders are put into `hidden`."""
    for folder, folders, files in os.walk(root):
        here = Path(folder).relative_to(root)
        hidden += [here / name for name in sorted(folders + files) if name.startswith(".")]
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (here / name for name in sorted(files) if not name.startswith("."))


def _visible_folders(root: Path) -> list[str]:
    return [path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]
