"""Find the files below a folder, in the same way for all commands."""

import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from thaw.errors import UserError

# Operating systems, archives and file servers create files and folders with these names beside a user's files.
_SYSTEM_NAMES = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "#recycle", "$recycle.bin"}
_SYSTEM_NAMES |= {"system volume information", "lost+found", "__pycache__"}
_HIDDEN_STARTS = (".", "~$")  # "~$": a file that an office program has open


@dataclass
class Walk:
    """The files below `root`, as sorted relative paths.

    `files` maps each folder ("" for `root` itself) to file names. `hidden` files and folders are not read. `special`
    paths, such as pipes, are neither files nor folders. `repeated` links are not followed, as `walk` explains.
    """

    root: Path
    files: dict[str, list[str]] = field(default_factory=dict)
    hidden: list[str] = field(default_factory=list)
    special: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)

    def paths(self) -> list[str]:
        """Return the paths of all files and all special paths; each path starts with `root`."""
        found = [path for folder in self.files for path in self.paths_in(folder)]
        return found + [os.path.join(self._start, path) for path in self.special]

    def paths_in(self, folder: str) -> list[str]:
        """Return the paths of the files in one folder; each path starts with `root`."""
        start = os.path.join(self._start, folder, "") if folder else self._start
        return [start + name for name in self.files[folder]]

    @property
    def _start(self) -> str:
        """The prefix of all paths. For the current folder, it is empty as in pathlib, not `./`."""
        return "" if str(self.root) == "." else os.path.join(self.root, "")


def is_hidden(name: str) -> bool:
    return name.startswith(_HIDDEN_STARTS) or name.casefold() in _SYSTEM_NAMES


def visible_folders(root: Path) -> list[str]:
    """Return the sorted names of folders in `root`, except hidden folders and links to folders that contain `root`."""
    real_root = os.path.realpath(root)
    folders = [entry for entry in _entries(str(root)) if not is_hidden(entry.name) and _leads_to_folder(entry)]
    loops = {
        entry.name for entry in folders if entry.is_symlink() and _contains(os.path.realpath(entry.path), real_root)
    }
    return sorted({entry.name for entry in folders} - loops)


def walk(root: Path) -> Walk:
    """Return the files below `root`.

    Links are followed, but each real folder is read once: at its own path if that is below `root`, otherwise at the
    first link to the folder. A link to a folder that contains the link is not followed. A broken link counts as a file.

    Raises:
        UserError: if a folder cannot be opened.

    """
    found, read = Walk(root), set()
    links = _read_tree(found, "", os.path.realpath(root), read)
    while links:
        followed: dict[str, str] = {}
        for link, real_folder in sorted(links):
            target = os.path.realpath(os.path.join(root, link))
            if target in read or target in followed or _contains(target, real_folder):
                found.repeated.append(link)
            else:
                followed[target] = link
        links = [
            deeper for target, link in followed.items() for deeper in _read_tree(found, link, target, read, followed)
        ]
    for paths in (found.hidden, found.special, found.repeated, *found.files.values()):
        paths.sort()
    found.files = dict(sorted(found.files.items()))
    return found


def _read_tree(
    found: Walk, top: str, real_top: str, read: set[str], others: Collection[str] = ()
) -> list[tuple[str, str]]:
    """Add to `found` the files below `top`, whose real path is `real_top`; skip folders in `read` or `others`.

    Return all links to folders, each with the real path of the folder that contains the link.
    """
    links, pending = [], [(top, real_top)]
    while pending:
        folder, real_folder = pending.pop()
        if real_folder in read or (real_folder in others and real_folder != real_top):
            continue
        read.add(real_folder)
        for entry in _entries(os.path.join(found.root, folder)):
            path = os.path.join(folder, entry.name)
            if is_hidden(entry.name):
                found.hidden.append(path)
            elif entry.is_dir(follow_symlinks=False):
                pending.append((path, os.path.join(real_folder, entry.name)))
            elif entry.is_symlink() and _leads_to_folder(entry):
                links.append((path, real_folder))
            elif _is_special(entry):
                found.special.append(path)
            else:
                found.files.setdefault(folder, []).append(entry.name)
    return links


def _entries(path: str) -> list[os.DirEntry]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except OSError as error:
        raise UserError(f"the folder {path} cannot be opened: {error.strerror or error}.") from error


def _contains(folder: str, other: str) -> bool:
    return os.path.commonpath([folder, other]) == folder


def _leads_to_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # the link leads to itself
        return False


def _is_special(entry: os.DirEntry) -> bool:
    if entry.is_file(follow_symlinks=False):
        return False
    return os.path.exists(entry.path) and not os.path.isfile(entry.path)
