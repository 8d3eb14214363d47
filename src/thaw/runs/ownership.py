"""Lock folders, so that one run at a time works in each, and protect files that Thaw did not write."""

import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from thaw.errors import UserError

_PATIENCE = 2  # seconds to wait for a lock: processes of a killed run or sweep take a moment to end
# Files that operating systems add to folders. A folder with only such files counts as empty.
_SYSTEM_FILES = frozenset((".ds_store", ".directory", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir"))
_RACES = 10
_held: dict[Path, FileLock] = {}
_new: dict[Path, list[Path]] = {}  # folders that this process created but has not used, each with its new parents


def new_folder(wanted: Path) -> Path:
    """Create the folder `wanted` and return it; if `wanted` exists, append the first free number to its name.

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
        except FileNotFoundError:  # another process has just removed the empty parent
            races += 1
            if races > _RACES:
                raise


def note_new(folder: Path) -> None:
    """Remember which parts of the path `folder` do not exist yet, so that `remove_new` can later remove these."""
    place = folder.resolve()
    missing = [path for path in (place, *place.parents) if not path.exists()]
    if missing:
        _new[place] = missing


def begin_in(folder: Path) -> None:
    """Keep `folder` from now on: `remove_new` no longer removes it."""
    _new.pop(folder.resolve(), None)


def remove_new(leftovers: Collection[str]) -> None:
    """Remove folders that this process created but has not used, if they contain only the names in `leftovers`."""
    for folder, made in list(_new.items()):
        _new.pop(folder)
        if not folder.is_dir() or foreign(folder, frozenset(leftovers)):
            continue
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        with suppress(OSError):  # another process may already use a parent folder
            for path in made:
                path.rmdir()


def hold(folder: Path, lock: str, option: str | None) -> None:
    """Lock `folder` with a lock file named `lock`; no other process can then lock it until `release`.

    The kernel also releases the lock when this process ends or is killed.

    Raises:
        UserError: if another process holds the lock; the message suggests `option`, which chooses another folder.

    """
    path = folder.resolve() / lock  # resolved: all spellings of the path share one lock
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
    except NotImplementedError:  # the file system has no locks
        return
    _held[path] = held


def release(folder: Path, lock: str) -> None:
    if held := _held.pop(folder.resolve() / lock, None):
        held.release()


@contextmanager
def holding(folder: Path, lock: str, option: str | None) -> Iterator[None]:
    """Lock `folder` inside the block, and unlock it afterwards unless this process had already locked it."""
    before = folder.resolve() / lock in _held
    hold(folder, lock, option)
    try:
        yield
    finally:
        if not before:
            release(folder, lock)


def foreign(folder: Path, leftovers: frozenset[str]) -> list[str]:
    """Return the names in `folder`, except `leftovers` of a failed start and files of the operating system."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(name for name in names if name not in leftovers and name.casefold() not in _SYSTEM_FILES)


def refuse_other_results(folder: Path, names: tuple[str, ...], what: str) -> None:
    """Raise UserError if `folder` has content but none of the files `names`. Thaw's own results have one.

    The message also says `what` is allowed in the folder, such as "an audit".
    """
    refuse_foreign(folder, lambda folder: any((folder / name).is_file() for name in names), frozenset(), what)


def refuse_inside(folder: Path, root: Path, option: str) -> None:
    """Raise UserError if `folder`, which is meant for results, lies inside `root`, the folder of images.

    The message names `option`, the command-line option that chooses another folder.
    """
    if folder.absolute().resolve().is_relative_to(root.absolute().resolve()):
        raise UserError(
            f"{folder} lies in {root}, so Thaw would later read the results as a class of images: choose another "
            f"folder with {option}=…."
        )


def refuse_foreign(folder: Path, is_ours: Callable[[Path], bool], leftovers: frozenset[str], what: str) -> None:
    """Raise UserError if `folder` contains anything except `leftovers`, unless `is_ours(folder)` is True.

    The message names some of these files, and says `what` is allowed instead, such as "a run".
    """
    found = [] if is_ours(folder) else foreign(folder, leftovers)
    if found:
        named = ", ".join(found[:3]) + (", …" if len(found) > 3 else "")
        raise UserError(f"{folder} holds {named} and is not a folder of {what}: choose a new or an empty folder.")
