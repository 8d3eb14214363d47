"""An index in the cache of what files held, so that a file that has not changed need not be read again.

Losing the index costs time and nothing else: where it cannot be read or written, files are read.
"""

import logging
import os
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from thaw.storage.cache import cache_dir

if TYPE_CHECKING:
    from sqlite3 import Connection

log = logging.getLogger(__name__)

Found = TypeVar("Found")

_STAMP = struct.Struct("<QQQQ")
_DIGEST = slice(_STAMP.size, _STAMP.size + 32)
_MOST = 2_000_000  # files, of some 200 bytes each
_COARSE = 2_000_000_000  # ns; where clocks are coarse, a file can change once more within the same stamp
_FEW = 1000  # files that are looked up one by one
_PATIENCE = 10  # seconds that another process may take to write
_RARELY = 7  # days after which the use of an entry is noted once more
_TABLE = "CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, fact BLOB, used INTEGER) WITHOUT ROWID"


def stamp(facts: os.stat_result) -> bytes:
    """Return what changes with a file: its size, the times of its last modification and change, and its inode."""
    values = facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino
    return _STAMP.pack(*(value % 2**64 for value in values))


def recalled(paths: Sequence[str | Path], stamps: Sequence[bytes]) -> list[bytes | None]:
    """Return the SHA-256 of each file, or None where the index does not have it with that stamp."""
    keys = _keys(paths)
    rows = _asked(lambda database: _rows(database, keys), []) if keys else []
    known = {key: fact for key, fact, _ in rows}
    _mark_used([key for key, _, used in rows if (used or 0) < _today() - _RARELY])
    return [_digest(key, mine, known.get(key)) for key, mine in zip(keys, stamps, strict=True)]


def remember(entries: Iterable[tuple[str | Path, bytes, bytes]], began: int) -> None:
    """Keep (path, stamp, SHA-256) of files that were read after `began`, in ns.

    A file that had just been written then is left out: it may change once more without a new stamp.
    """
    settled = [(path, mine, digest) for path, mine, digest in entries if _changed(mine) < began - _COARSE]
    keys = _keys([path for path, _, _ in settled])
    rows = [(key, _fact(key, mine, digest), _today()) for key, (_, mine, digest) in zip(keys, settled, strict=True)]

    def keep(database: "Connection") -> None:
        database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", rows)
        (count,) = database.execute("SELECT count(*) FROM files").fetchone()
        oldest = "SELECT path FROM files ORDER BY used LIMIT ?"
        database.execute(f"DELETE FROM files WHERE path IN ({oldest})", (max(0, count - _MOST),))

    if rows:
        _asked(keep, None)


def _changed(mine: bytes) -> int:
    """Return when a file last changed; its time of modification can be set to anything."""
    return _STAMP.unpack(mine)[2]


def _keys(paths: Sequence[str | Path]) -> list[bytes]:
    folders: dict[bytes, bytes] = {}

    def key(path: bytes) -> bytes:
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = os.path.abspath(folder)
        return folders[folder] + b"/" + name

    return [key(os.fsencode(path)) for path in paths]


def _fact(key: bytes, mine: bytes, digest: bytes) -> bytes:
    fact = mine + digest
    return fact + _check(key, fact)


def _check(key: bytes, fact: bytes) -> bytes:
    return zlib.crc32(fact, zlib.crc32(key)).to_bytes(4, "little")


def _digest(key: bytes, mine: bytes, fact: bytes | None) -> bytes | None:
    if not fact or not fact.startswith(mine) or fact[_DIGEST.stop :] != _check(key, fact[: _DIGEST.stop]):
        return None
    return fact[_DIGEST]


def _rows(database: "Connection", keys: Sequence[bytes]) -> list[tuple[bytes, bytes, int]]:
    asked = "SELECT path, CAST(fact AS BLOB), CAST(used AS INTEGER) FROM files WHERE path"
    if len(keys) > _FEW:
        return database.execute(f"{asked} BETWEEN ? AND ?", (min(keys), max(keys))).fetchall()
    return [row for key in keys for row in database.execute(f"{asked} = ?", (key,))]


def _mark_used(keys: Sequence[bytes]) -> None:
    rows = [(_today(), key) for key in keys]
    if rows:
        _asked(lambda database: database.executemany("UPDATE files SET used = ? WHERE path = ?", rows), None)


def _today() -> int:
    return int(time.time() // 86400)


def _asked(task: Callable[["Connection"], Found], otherwise: Found) -> Found:
    """Return what `task` returns of the database, whose changes are kept together; `otherwise` if there is none."""
    try:
        import sqlite3  # which some builds of Python lack
    except ImportError:
        return otherwise
    path = cache_dir() / "files-1.sqlite"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, _PATIENCE)) as database, database:
            database.execute(_TABLE)
            return task(database)
    except (sqlite3.OperationalError, OSError) as error:  # as on a full disk, or one that cannot be written
        log.debug(f"the index of files is not used: {error}")
    except sqlite3.DatabaseError as error:
        log.debug(f"the index of files is damaged and made anew: {error}")
        for damaged in (path.with_name(f"{path.name}-journal"), path):
            damaged.unlink(missing_ok=True)
    return otherwise
