"""The cache folder `$THAW_CACHE`, which runs share. It may be deleted at any time: Thaw computes its content again."""

import errno
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from thaw.errors import UserError

log = logging.getLogger(__name__)


def cache_dir() -> Path:
    return Path(os.environ.get("THAW_CACHE") or "~/.cache/thaw").expanduser()


def build_once(name: str, build: Callable[[Path], None], is_whole: Callable[[Path], bool], keep: int) -> Path:
    """Return the path of the cache entry `name`, a file or folder; build it if missing or not `is_whole(path)`.

    `build` writes to a temporary path, which is then renamed. Other processes that need the entry wait. Afterwards,
    the folder keeps only its `keep` most recently used entries. Raise UserError if the cache folder is not writable.
    """
    path = cache_dir() / name
    try:
        _build_locked(path, build, is_whole)
        for entry in _by_age(path.parent)[keep:]:
            _remove(entry)
    except OSError as error:
        raise UserError(
            f"cannot write to the cache folder {cache_dir()} ({error.strerror or error}); "
            "set THAW_CACHE to a writable folder."
        ) from error
    return path


def build_bounded(
    name: str, build: Callable[[Path], None], is_whole: Callable[[Path], bool], size: int, max_size: float
) -> Path:
    """Do the same as `build_once`, but limit the folder's entries to `max_size` bytes in total.

    Before an entry of `size` bytes is built, the least recently used entries are deleted. A process that has a deleted
    file open can keep reading that file.

    Raises:
        OSError: if the entry cannot be written, for example on a full disk; a partly written entry is removed.

    """

    def build_after_making_room(part: Path) -> None:
        _make_room(path.parent, max_size - size)
        free = shutil.disk_usage(path.parent).free
        if free < size:
            raise OSError(errno.ENOSPC, f"{size / 1e9:.2f} GB are needed, but only {free / 1e9:.2f} GB are free")
        build(part)

    path = cache_dir() / name
    _build_locked(path, build_after_making_room, is_whole)
    return path


def _build_locked(path: Path, build: Callable[[Path], None], is_whole: Callable[[Path], bool]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        if not (path.exists() and is_whole(path)):
            _build(path, build)
        os.utime(path)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=1)
    except Timeout:
        log.info(f"waiting for another process that builds {path}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _build(path: Path, build: Callable[[Path], None]) -> None:
    for stale in path.parent.glob(f"{path.name}.part-*"):
        _remove(stale)
    part = path.with_name(f"{path.name}.part-{uuid.uuid4().hex[:8]}")
    try:
        build(part)
        _remove(path)
        os.replace(part, path)
    finally:
        _remove(part)


def _by_age(folder: Path) -> list[Path]:
    """Return complete entries, most recently used first. A file without a lock file is not an entry of the cache."""
    entries = [entry for entry in folder.iterdir() if entry.with_name(f"{entry.name}.lock").is_file()]
    entries = [entry for entry in entries if entry.suffix != ".lock" and ".part-" not in entry.name]
    return sorted(entries, key=lambda entry: entry.stat().st_mtime, reverse=True)


def _make_room(folder: Path, most: float) -> None:
    kept = 0
    for entry in _by_age(folder):
        kept += sum(file.stat().st_size for file in entry.rglob("*"))
        if kept > most:
            _remove(entry)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
