"""An index of file digests in the cache, so that unchanged files need not be read again.

The index may be deleted at any time: Thaw then reads the files again.
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

Result = TypeVar("Result")

_STAMP = struct.Struct("<QQQQ")
_DIGEST = slice(_STAMP.size, _STAMP.size + 32)
_MOST = 2_000_000  # entries, about 200 bytes each
_COARSE = 2_000_000_000  # ns; with a coarse clock, a file that changes twice within this time can keep its stamp
_FEW = 1000  # files; up to this many are looked up one by one
_PATIENCE = 10  # seconds to wait while another process writes
_RARELY = 7  # days; an entry's last use is updated at most once in this time
_TABLE = "CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, fact BLOB, used INTEGER) WITHOUT ROWID"


def stamp(facts: os.stat_result) -> bytes:
    """Return a file's size, modification time, change time and inode as bytes, which change if the file changes."""
    values = facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino
    return _STAMP.pack(*(value % 2**64 for value in values))


def lookup(paths: Sequence[str | Path], stamps: Sequence[bytes]) -> list[bytes | None]:
    """Return, for each file, its SHA-256, or None if the index has no entry with its path and stamp."""
    keys = _keys(paths)
    rows = _query(lambda database: _rows(database, keys), []) if keys else []
    known = {key: fact for key, fact, _ in rows}
    stale = [(_today(), key) for key, _, used in rows if (used or 0) < _today() - _RARELY]
    if stale:
        _query(lambda database: database.executemany("UPDATE files SET used = ? WHERE path = ?", stale), None)
    return [_digest(key, file_stamp, known.get(key)) for key, file_stamp in zip(keys, stamps, strict=True)]


def store(entries: Iterable[tuple[str | Path, bytes, bytes]], began: int) -> None:
    """Store (path, stamp, SHA-256) of each file. `began` is when reading the files started, in ns since 1970.

    Files that changed shortly before `began` are left out, because a second change might not change the stamp.
    """
    # Value 2 of a stamp is the change time. Unlike the modification time, users cannot set this time.
    settled = [entry for entry in entries if _STAMP.unpack(entry[1])[2] < began - _COARSE]
    facts = [file_stamp + digest for _, file_stamp, digest in settled]
    keys = _keys([path for path, _, _ in settled])
    rows = [(key, fact + _checksum(key, fact), _today()) for key, fact in zip(keys, facts, strict=True)]

    def keep(database: "Connection") -> None:
        database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", rows)
        (count,) = database.execute("SELECT count(*) FROM files").fetchone()
        oldest = "SELECT path FROM files ORDER BY used LIMIT ?"
        database.execute(f"DELETE FROM files WHERE path IN ({oldest})", (max(0, count - _MOST),))

    if rows:
        _query(keep, None)


def _keys(paths: Sequence[str | Path]) -> list[bytes]:
    folders: dict[bytes, bytes] = {}

    def key(path: bytes) -> bytes:
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = os.path.abspath(folder)
        return folders[folder] + b"/" + name

    return [key(os.fsencode(path)) for path in paths]


def _checksum(key: bytes, fact: bytes) -> bytes:
    return zlib.crc32(fact, zlib.crc32(key)).to_bytes(4, "little")


def _digest(key: bytes, file_stamp: bytes, fact: bytes | None) -> bytes | None:
    if not fact or not fact.startswith(file_stamp) or fact[_DIGEST.stop :] != _checksum(key, fact[: _DIGEST.stop]):
        return None
    return fact[_DIGEST]


def _rows(database: "Connection", keys: Sequence[bytes]) -> list[tuple[bytes, bytes, int]]:
    select = "SELECT path, CAST(fact AS BLOB), CAST(used AS INTEGER) FROM files WHERE path"
    if len(keys) > _FEW:
        return database.execute(f"{select} BETWEEN ? AND ?", (min(keys), max(keys))).fetchall()
    return [row for key in keys for row in database.execute(f"{select} = ?", (key,))]


def _today() -> int:
    return int(time.time() // 86400)


def _query(task: Callable[["Connection"], Result], default: Result) -> Result:
    """Run `task` in one transaction and return its result, or `default` if the database cannot be used."""
    try:
        import sqlite3  # some builds of Python lack sqlite3
    except ImportError:
        return default
    path = cache_dir() / "files-1.sqlite"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, _PATIENCE)) as database, database:
            database.execute(_TABLE)
            return task(database)
    except (sqlite3.OperationalError, OSError) as error:  # a full or read-only disk, for example
        log.debug(f"the file index cannot be used: {error}")
    except sqlite3.DatabaseError as error:
        log.debug(f"the file index is damaged, so it is deleted: {error}")
        for damaged in (path.with_name(f"{path.name}-journal"), path):
            damaged.unlink(missing_ok=True)
    return default
