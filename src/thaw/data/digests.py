"""SHA-256 digests of files, libraries and code, for cache keys that change whenever decoded pixels may change."""

import hashlib
import os
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import PIL
import torchvision
from tqdm import tqdm

from thaw.data import file_index
from thaw.data.images import named_fault
from thaw.data.workers import in_threads
from thaw.storage.versions import READING

_FILES_PER_TASK = 16
_FILES_PER_SAVE = 4096  # a stopped run loses at most this many digests
_BLOCK = 2**18  # bytes


def joint_digest(digests: Sequence[bytes]) -> str:
    """Return one SHA-256, in hexadecimal, of all `digests` in their order."""
    return hashlib.sha256(b"".join(digests)).hexdigest()


def file_digests(paths: Sequence[str | Path]) -> list[bytes]:
    """Return the SHA-256 of each file. Files that are unchanged according to `thaw.data.file_index` are not read.

    Raises:
        UnreadableImageError: if a file cannot be read; the message names its path.

    """
    stamps = [_stamp(path) for path in paths]
    digests = file_index.lookup(paths, stamps)
    missing = [index for index, digest in enumerate(digests) if digest is None]
    with tqdm(desc="reading images, once", total=len(missing), leave=False, disable=None) as bar:
        for first in range(0, len(missing), _FILES_PER_SAVE):
            indices, began, entries = missing[first : first + _FILES_PER_SAVE], time.time_ns(), []
            for index, digest in zip(indices, _read([paths[index] for index in indices]), strict=True):
                digests[index] = digest
                entries.append((paths[index], stamps[index], digest))
                bar.update()
            file_index.store([entry for entry in entries if _stamp(entry[0]) == entry[1]], began)
    return [digest for digest in digests if digest is not None]


def digest_of(*facts: object) -> str:
    """Return the SHA-256, in hexadecimal, of the `repr` of all `facts`."""
    return hashlib.sha256("\n".join(map(repr, facts)).encode()).hexdigest()


def reading_version(*others: int) -> str:
    """Return a digest of `others`, and of the versions of Pillow, torchvision and Thaw's code that reads images."""
    return digest_of(READING, *others, PIL.__version__, torchvision.__version__)


def _stamp(path: str | Path) -> bytes:
    try:
        facts = os.stat(path)
        if stat.S_ISREG(facts.st_mode):
            return file_index.stamp(facts)
        raise ValueError("it is not a file")
    except (OSError, ValueError) as error:
        with named_fault(path):
            raise error


def _read(paths: Sequence[str | Path]) -> Iterator[bytes]:
    parts = [paths[first : first + _FILES_PER_TASK] for first in range(0, len(paths), _FILES_PER_TASK)]
    for digests in in_threads(lambda part: [*map(_file_digest, part)], parts):
        yield from digests


def _file_digest(path: str | Path) -> bytes:
    digest = hashlib.sha256()
    with named_fault(path), open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.digest()
