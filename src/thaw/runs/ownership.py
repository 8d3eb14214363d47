"""Whose a folder is: one run at a time works in it, and nothing that Thaw did not write is touched."""

import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from thaw.errors import UserError

_PATIENCE = 2  # seconds; a job whose sweep was killed takes a moment to end, and so does a killed run's loader
# What systems leave in any folder that they show: nobody's files, which stay where they are.
_OF_SYSTEMS = frozenset((".ds_store", ".directory", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir"))
_RACES = 10
_held: dict[Path, FileLock] = {}
_new: dict[Path, list[Path]] = {}  # folders that this process has made and not worked in, with those made around them


def new_folder(wanted: Path) -> Path:
    """Make the folder `wanted` and return it; where it exists, that name with the first free number.

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
        except FileNotFoundError:  # another process has just removed the folder around it, which was new and empty
            races += 1
            if races > _RACES:
                raise


def note_new(folder: Path) -> None:
    """Remember that `folder`, which is about to be made, was not there before."""
    place = folder.absolute()
    missing = [path for path in (place, *place.parents) if not path.exists()]
    if missing:
        _new[place] = missing


def begin_in(folder: Path) -> None:
    """Keep `folder`, whatever becomes of the work in it."""
    _new.pop(folder.absolute(), None)


def remove_new(leftovers: Collection[str]) -> None:
    """Remove the folders that this process has made and has not begun to work in, if they hold `leftovers` alone."""
    for folder, made in list(_new.items()):
        _new.pop(folder)
        if not folder.is_dir() or foreign(folder, frozenset(leftovers)):
            continue
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        with suppress(OSError):  # others may have begun to use one of them
            for path in made:
                path.rmdir()


def hold(folder: Path, lock: str, option: str | None) -> None:
    """Keep other processes out of `folder` until `release`, by the file `lock` in it.

    The kernel releases the lock when this process ends, however it ends.

    Raises:
        UserError: if another process holds `folder`; it names `option`, by which another folder is chosen, if one can
            be chosen.

    """
    path = folder.absolute() / lock
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
    """Release what `hold` has taken."""
    if held := _held.pop(folder.absolute() / lock, None):
        held.release()


@contextmanager
def holding(folder: Path, lock: str, option: str | None) -> Iterator[None]:
    """`hold` and `release`; a folder that this process holds already stays held."""
    before = folder.absolute() / lock in _held
    hold(folder, lock, option)
    try:
        yield
    finally:
        if not before:
            release(folder, lock)


def foreign(folder: Path, leftovers: frozenset[str]) -> list[str]:
    """Return the names of what `folder` holds beside `leftovers` of a start that failed, and beside systems' files."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(name for name in names if name not in leftovers and name.casefold() not in _OF_SYSTEMS)


def refuse_other_results(folder: Path, names: tuple[str, ...], what: str) -> None:
    """Allow a folder that is new or empty, or that has one of the files `names` of such results in it.

    Raises:
        UserError: as `refuse_foreign` does.

    """
    refuse_foreign(folder, lambda folder: any((folder / name).is_file() for name in names), frozenset(), what)


def refuse_inside(folder: Path, root: Path, option: str) -> None:
    """Allow a folder for results that is not among the images.

    Raises:
        UserError: naming `option`, by which another folder is chosen.

    """
    if folder.absolute().resolve().is_relative_to(root.absolute().resolve()):
        raise UserError(
            f"{folder} lies in {root}, where results would be taken for a class and its images: choose another folder "
            f"with {option}=…."
        )


def refuse_foreign(folder: Path, is_ours: Callable[[Path], bool], leftovers: frozenset[str], what: str) -> None:
    """Allow a folder that is new, that `is_ours`, or that holds nothing but `leftovers`.

    Raises:
        UserError: naming some of what the folder holds instead; `what` says what would be allowed.

    """
    found = [] if is_ours(folder) else foreign(folder, leftovers)
    if found:
        named = ", ".join(found[:3]) + (", …" if len(found) > 3 else "")
        raise UserError(f"{folder} holds {named} and is no folder of {what}: choose a new or an empty folder.")
