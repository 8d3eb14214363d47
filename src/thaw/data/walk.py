"""The one walk over the files of a folder, the same for every command."""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from thaw.errors import UserError

# Systems, archives and file servers leave these beside a user's files.
_OF_SYSTEMS = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "#recycle", "$recycle.bin"}
_OF_SYSTEMS |= {"system volume information", "lost+found"}


@dataclass
class Walk:
    """What lies below `root`, as paths relative to it, sorted.

    `files` are names by their folder, which is "" for `root` itself. `hidden` files and folders are not read, nor is
    what is neither a file nor a folder (`special`, such as a pipe). `repeated` are links to folders that are read in
    another place.
    """

    root: Path
    files: dict[str, list[str]] = field(default_factory=dict)
    hidden: list[str] = field(default_factory=list)
    special: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)

    def paths(self) -> list[str]:
        """Return the paths, with `root`, of all files and of what is special."""
        found = [path for folder in self.files for path in self.paths_in(folder)]
        return found + [os.path.join(self._start, path) for path in self.special]

    def paths_in(self, folder: str) -> list[str]:
        """Return the paths, with `root`, of the files of one folder."""
        start = os.path.join(self._start, folder, "") if folder else self._start
        return [start + name for name in self.files[folder]]

    @property
    def _start(self) -> str:
        """As pathlib has it: `x` in the folder `.` is not `./x`."""
        return "" if str(self.root) == "." else os.path.join(self.root, "")


def is_hidden(name: str) -> bool:
    return name.startswith(".") or name.casefold() in _OF_SYSTEMS


def visible_folders(root: Path) -> list[str]:
    """Return the names of the folders in `root`, sorted, and of links to folders but for those that hold the link."""
    place = os.path.realpath(root)
    with _scanned(str(root)) as entries:
        folders = [entry for entry in entries if not is_hidden(entry.name) and _leads_to_folder(entry)]
    loops = {entry.name for entry in folders if entry.is_symlink() and _holds(os.path.realpath(entry.path), place)}
    return sorted({entry.name for entry in folders} - loops)


def walk(root: Path) -> Walk:
    """Return what lies below `root`.

    Links are followed, but each real folder is read once: in its own place if that is below `root`, else under the
    first link to it. A link to a folder that holds the link is not followed. A link to nothing counts as a file.

    Raises:
        UserError: for a folder that cannot be opened.

    """
    found, read = Walk(root), set()
    links = _read_tree(found, "", os.path.realpath(root), read)
    while links:
        followed: dict[str, str] = {}
        for link, place in sorted(links):
            target = os.path.realpath(os.path.join(root, link))
            if target in read or target in followed or _holds(target, place):
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
    """Add what lies in the folder `top`, which really is at `real_top`, but for folders in `read` and `others`.

    Return its links to folders, each with the real folder that it lies in.
    """
    links, left = [], [(top, real_top)]
    while left:
        folder, place = left.pop()
        if place in read or (place in others and place != real_top):
            continue
        read.add(place)
        for entry in _entries(found.root, folder):
            path = os.path.join(folder, entry.name)
            if is_hidden(entry.name):
                found.hidden.append(path)
            elif entry.is_dir(follow_symlinks=False):
                left.append((path, os.path.join(place, entry.name)))
            elif entry.is_symlink() and _leads_to_folder(entry):
                links.append((path, place))
            elif _is_special(entry):
                found.special.append(path)
            else:
                found.files.setdefault(folder, []).append(entry.name)
    return links


def _entries(root: Path, folder: str) -> Iterator[os.DirEntry]:
    with _scanned(os.path.join(root, folder)) as entries:
        yield from entries


def _scanned(path: str):
    try:
        return os.scandir(path)
    except OSError as error:
        raise UserError(f"the folder {path} cannot be opened: {error.strerror or error}.") from error


def _holds(folder: str, place: str) -> bool:
    return os.path.commonpath([folder, place]) == folder


def _leads_to_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_special(entry: os.DirEntry) -> bool:
    if entry.is_file(follow_symlinks=False):
        return False
    return os.path.exists(entry.path) and not os.path.isfile(entry.path)
