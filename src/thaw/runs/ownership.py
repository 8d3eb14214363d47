"""Ownership of folders: one run at a time works in a folder, and files that Thaw did not write stay untouched."""

import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from thaw.errors import UserError

_PATIENCE = 2  # seconds; the loader of a killed run, and a job of a killed sweep, take a moment to end
# Files that operating systems leave in folders they display. They do not count as content, and stay.
_SYSTEM_FILES = frozenset((".ds_store", ".directory", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir"))
_RACES = 10
_held: dict[Path, FileLock] = {}
_new: dict[Path, list[Path]] = {}  # folders this process made and has not worked in yet, with parents made for them


def new_folder(wanted: Path) -> Path:
    """Make the folder `wanted` and return it; if it exists, add the first free number to its name.

    Two processes never get the same folder.
    """
    candidate, count, races = wanted, 1, 0
    while True:
        note_new(candidate)
        try:
            wanted.parent.mkdir(parents=True, exist_ok=True)
            candidate.mkdir()
            return candidate
        except FileExistsError:
            if not wanted.parent.is_dir():
                raise
            count += 1
            candidate = wanted.with_name(f"{wanted.name}-{count}")
        except FileNotFoundError:  # another process just removed the parent, which was new and empty
            races += 1
            if races > _RACES:
                raise


def note_new(folder: Path) -> None:
    """Remember which part of the path `folder` does not exist yet; call it before making the folder."""
    place = folder.resolve()
    missing = [path for path in (place, *place.parents) if not path.exists()]
    if missing:
        _new[place] = missing


def begin_in(folder: Path) -> None:
    """Keep `folder` from now on, even if the work in it fails."""
    _new.pop(folder.resolve(), None)


def remove_new(leftovers: Collection[str]) -> None:
    """Remove the folders this process made and has not begun to work in, if they contain only `leftovers`."""
    for folder, made in list(_new.items()):
        _new.pop(folder)
        if not folder.is_dir() or foreign(folder, frozenset(leftovers)):
            continue
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        with suppress(OSError):  # another process may already use one of them
            for path in made:
                path.rmdir()


def hold(folder: Path, lock: str, option: str | None) -> None:
    """Lock `folder` with the file `lock` in it, so that other processes stay out until `release`.

    The kernel releases the lock when this process ends, however it ends.

    Raises:
        UserError: if another process holds `folder`; the message names `option`, if any, which chooses another folder.

    """
    path = folder.resolve() / lock  # one name, however the folder is spelled
    if path in _held:
        return
    note_new(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(path)
    try:
        held.acquire(timeout=_PATIENCE)
    except Timeout as error:
        cure = f"wait for it, or choose another {option}" if option else "wait for it, or stop it first"
        raise UserError(f"{folder} is in use by another process, which trains there: {cure}.") from error
    except NotImplementedError:  # a file system without locks
        return
    _held[path] = held


def release(folder: Path, lock: str) -> None:
    """Release the lock that `hold` acquired."""
    if held := _held.pop(folder.resolve() / lock, None):
        held.release()


@contextmanager
def holding(folder: Path, lock: str, option: str | None) -> Iterator[None]:
    """Hold `folder` inside the block, and after it if this process held it before."""
    before = folder.resolve() / lock in _held
    hold(folder, lock, option)
    try:
        yield
    finally:
        if not before:
            release(folder, lock)


def foreign(folder: Path, leftovers: frozenset[str]) -> list[str]:
    """Return the names in `folder` without `leftovers` of a failed start and without files of operating systems."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(name for name in names if name not in leftovers and name.casefold() not in _SYSTEM_FILES)


def refuse_other_results(folder: Path, names: tuple[str, ...], what: str) -> None:
    """Refuse a folder that has content but none of the files `names`, which mark results of the kind `what`.

    Raises:
        UserError: if `folder` has other content, as in `refuse_foreign`.

    """
    refuse_foreign(folder, lambda folder: any((folder / name).is_file() for name in names), frozenset(), what)


def refuse_inside(folder: Path, root: Path, option: str) -> None:
    """Refuse a folder for results that lies among the images in `root`.

    Raises:
        UserError: if it does; the message names `option`, which chooses another folder.

    """
    if folder.absolute().resolve().is_relative_to(root.absolute().resolve()):
        raise UserError(
            f"{folder} lies in {root}, where Thaw would read its results as a class of images: choose another folder "
            f"with {option}=…."
        )


def refuse_foreign(folder: Path, is_ours: Callable[[Path], bool], leftovers: frozenset[str], what: str) -> None:
    """Refuse a folder that contains anything but `leftovers`, unless `is_ours` returns True for it.

    Raises:
        UserError: if there is other content; the message names some of it, and `what`, the kind of folder allowed.

    """
    found = [] if is_ours(folder) else foreign(folder, leftovers)
    if found:
        named = ", ".join(found[:3]) + (", …" if len(found) > 3 else "")
        raise UserError(f"{folder} holds {named} and is not a folder of {what}: choose a new or an empty folder.")
