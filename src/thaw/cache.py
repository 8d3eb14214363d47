"""`$THAW_CACHE`: what Thaw made once and may make again, shared by all runs and safe to delete at any time."""

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
    """The file or folder `name` of the cache, made by `build(path)` unless a whole one is there.

    One process builds, others wait for it; what is half built never bears the final name. Of the entries beside it
    the `keep` most recently used stay.
    """
    path = cache_dir() / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            if not (path.exists() and is_whole(path)):
                _build(path, build)
            os.utime(path)
            _prune(path.parent, keep)
    except OSError as error:
        raise UserError(
            f"cannot write to the cache folder {cache_dir()} ({error.strerror or error}); "
            "set THAW_CACHE to a folder that can be written."
        ) from error
    return path


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=1)
    except Timeout:
        log.info(f"waiting for another process that is making {path}")
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


def _prune(folder: Path, keep: int) -> None:
    entries = [entry for entry in folder.iterdir() if entry.suffix != ".lock" and ".part-" not in entry.name]
    for entry in sorted(entries, key=lambda entry: entry.stat().st_mtime, reverse=True)[keep:]:
        _remove(entry)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
