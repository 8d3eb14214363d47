"""Arrays on disk with checksums: written piece by piece, read as a memory map."""

import json
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

_THREADS = 4


class DamagedArrayError(Exception):
    """Raised when the files of an array are missing, or differ from what was written."""


def write_array(folder: Path, name: str, pieces: Iterable[np.ndarray]) -> None:
    """Write `pieces` (at least one) to disk, concatenated along the first dimension, with a checksum of each piece."""
    folder.mkdir(parents=True, exist_ok=True)
    checks, rows, data = [], 0, np.empty(0)
    with (folder / f"{name}.bin").open("wb") as file:
        for piece in pieces:
            data = np.ascontiguousarray(piece)
            file.write(data.data)
            checks.append([data.nbytes, zlib.crc32(data.data)])
            rows += len(data)
    header = {"dtype": data.dtype.str, "shape": [rows, *data.shape[1:]], "checks": checks}
    (folder / f"{name}.json").write_text(json.dumps(header))


def read_array(folder: Path, name: str) -> np.memmap:
    """Check the array's checksums and return the array as a memory map; changes to the map are not written to disk.

    Raises:
        DamagedArrayError: if a file is missing, or bytes are missing, added or changed.

    """
    try:
        header = json.loads((folder / f"{name}.json").read_text())
        array = np.memmap(folder / f"{name}.bin", dtype=header["dtype"], mode="c", shape=tuple(header["shape"]))
        checks = header["checks"]
        ends = np.cumsum([0, *(size for size, _ in checks)])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedArrayError(f"{folder / name} cannot be read: {error}") from error
    data = memoryview(array.reshape(-1).view(np.uint8).data)
    if ends[-1] != len(data) or (folder / f"{name}.bin").stat().st_size != len(data):
        raise DamagedArrayError(f"{folder / name} is longer or shorter than what was written")
    with ThreadPoolExecutor(_THREADS) as pool:
        if not all(pool.map(lambda part: _is_whole(data, ends, checks, part), _parts(len(checks)))):
            raise DamagedArrayError(f"{folder / name} differs from what was written")
    return array


def _parts(pieces: int) -> list[range]:
    size = -(-pieces // (4 * _THREADS)) or 1
    return [range(first, min(first + size, pieces)) for first in range(0, pieces, size)]


def _is_whole(data: memoryview, ends: np.ndarray, checks: Sequence[Sequence[int]], pieces: range) -> bool:
    return all(zlib.crc32(data[ends[piece] : ends[piece + 1]]) == checks[piece][1] for piece in pieces)
