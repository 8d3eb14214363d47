"""What a split's pixels depend on, as short strings that change with it: file contents, libraries, code."""

import hashlib
import os
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import PIL
import torchvision
from tqdm import tqdm

from thaw.data import file_index
from thaw.data.images import named_fault
from thaw.data.workers import usable_cores
from thaw.storage.versions import READING

_IN_A_TASK = 16  # files
_KEPT_AT_ONCE = 4096  # files, so that not all is lost when a run is stopped


def contents_digest(paths: Sequence[str | Path]) -> str:
    """SHA-256 over the contents of the files, in their order.

    Raises:
        UnreadableImageError: naming the path of a file that cannot be read.

    """
    return joint_digest(file_digests(paths))


def joint_digest(digests: Sequence[bytes]) -> str:
    """As `contents_digest`, of files with these digests."""
    return hashlib.sha256(b"".join(digests)).hexdigest()


def file_digests(paths: Sequence[str | Path]) -> list[bytes]:
    """SHA-256 of each file, which is read only if the index in the cache does not have it as it is now.

    Raises:
        UnreadableImageError: naming the path of a file that cannot be read.

    """
    stamps = [_stamp(path) for path in paths]
    found = file_index.recalled(paths, stamps)
    left = [place for place, digest in enumerate(found) if digest is None]
    with tqdm(desc="reading images, once", total=len(left), leave=False, disable=not sys.stderr.isatty()) as bar:
        for first in range(0, len(left), _KEPT_AT_ONCE):
            places, began = left[first : first + _KEPT_AT_ONCE], time.time_ns()
            for place, digest in zip(places, _read([paths[place] for place in places]), strict=True):
                found[place] = digest
                bar.update()
            still = [place for place in places if _stamp(paths[place]) == stamps[place]]
            file_index.remember([(paths[place], stamps[place], found[place]) for place in still], began)
    return found


def digest_of(*facts: object) -> str:
    """SHA-256 over what `facts` are written as."""
    return hashlib.sha256("\n".join(map(repr, facts)).encode()).hexdigest()


def reading_version(*others: int) -> str:
    """Return the version of what is read of an image file, and of `others` that are computed of it."""
    return digest_of(READING, *others, PIL.__version__, torchvision.__version__)


def _stamp(path: str | Path) -> bytes:
    try:
        facts = os.stat(path)
        if stat.S_ISREG(facts.st_mode):
            return file_index.stamp(facts)
        raise ValueError("it is no file")
    except (OSError, ValueError) as error:
        with named_fault(path):
            raise error


def _read(paths: Sequence[str | Path]) -> Iterator[bytes]:
    parts = [paths[first : first + _IN_A_TASK] for first in range(0, len(paths), _IN_A_TASK)]
    with ThreadPoolExecutor(usable_cores()) as pool:
        for digests in pool.map(lambda part: [*map(_file_digest, part)], parts):
            yield from digests


def _file_digest(path: str | Path) -> bytes:
    with named_fault(path), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
