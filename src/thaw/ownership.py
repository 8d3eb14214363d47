"""Whose a folder is: one run at a time works in it, and nothing that Thaw did not write is touched."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from thaw.errors import UserError

_PATIENCE = 2  # seconds; a job whose sweep was killed takes a moment to end, and so does a killed run's loader
_held: dict[Path, FileLock] = {}


def new_folder(wanted: Path) -> Path:
    """Make the folder `wanted` and return it; where it exists, that name with the first free number.

    Two processes never get the same folder.
    """
    candidate, count = wanted, 1
    wanted.parent.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            candidate.mkdir()
            return candidate
        except FileExistsError:
            count += 1
            candidate = wanted.with_name(f"{wanted.name}-{count}")


def hold(folder: Path, lock: str, option: str) -> None:
    """Keep other processes out of `folder` until `let_go`, by the file `lock` in it.

    The kernel releases the lock when this process ends, however it ends.

    Raises:
        UserError: naming `option`, by which another folder is chosen, if another process holds `folder`.

    """
    path = folder.absolute() / lock
    if path in _held:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(path)
    try:
        held.acquire(timeout=_PATIENCE)
    except Timeout as error:
        raise UserError(
            f"{folder} is in use by another process, which trains there: wait for it, or choose another {option}."
        ) from error
    except NotImplementedError:  # a file system without locks
        return
    _held[path] = held


def let_go(folder: Path, lock: str) -> None:
    """Release what `hold` has taken."""
    if held := _held.pop(folder.absolute() / lock, None):
        held.release()


@contextmanager
def holding(folder: Path, lock: str, option: str) -> Iterator[None]:
    """`hold` and `let_go`; a folder that this process holds already stays held."""
    before = folder.absolute() / lock in _held
    hold(folder, lock, option)
    try:
        yield
    finally:
        if not before:
            let_go(folder, lock)


def foreign(folder: Path, leftovers: frozenset[str]) -> list[str]:
    """Return the names of what `folder` holds beside `leftovers` of a start that failed."""
    return sorted(path.name for path in folder.iterdir() if path.name not in leftovers) if folder.is_dir() else []


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
