"""Store decoded images in the cache, so that they need not be decoded again in every epoch."""

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from thaw.data.batch_resize import HostImages
from thaw.data.digests import digest_of, reading_version
from thaw.data.grey import GreyRange
from thaw.data.images import load_rgb, pixel_count
from thaw.data.workers import in_threads_ahead, usable_cores
from thaw.errors import UserError
from thaw.storage.arrays import DamagedArrayError, read_array, write_array
from thaw.storage.cache import build_bounded, build_once
from thaw.storage.versions import PIXELS

log = logging.getLogger(__name__)

_BYTES_PER_IMAGE = 64  # for an image's size and checksum, in addition to its pixels
_HEADERS_PER_TASK = 64
_HEADER_THREADS = 2  # more threads would mostly wait for Python's lock
_COUNTS_KEPT = 100  # cache entries, a few bytes each


class StoredPixels:
    """The decoded images of a split, in order. Pickles lack pixels: spawned loader processes open the file again."""

    def __init__(self, pixels: np.memmap, sizes: np.ndarray):
        """`pixels`, uint8, holds the pixels of all images; `sizes`, int64 (N, 2), holds each (height, width)."""
        self.pixels, self.sizes = pixels, sizes
        self._flat, self._ends = np.asarray(pixels), np.cumsum(3 * sizes.prod(1))  # indexing a memmap is slow

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return image number `index` as uint8 (H, W, 3)."""
        height, width, end = *self.sizes[index].tolist(), int(self._ends[index])
        return self._flat[end - 3 * height * width : end].reshape(height, width, 3)

    def batch(self, indices: Sequence[int]) -> HostImages:
        return HostImages([self[index] for index in indices])

    def __reduce__(self):
        return _opened, (self.pixels.filename, np.array(self.sizes))


def stored_pixels(
    paths: Sequence[str],
    contents: str,
    short_side: int | None,
    size: int,
    max_size: float,
    grey_range: GreyRange = None,
) -> StoredPixels | None:
    """Return the decoded images of `paths` from the cache; if the cache lacks them, `load_rgb` decodes them first.

    `contents` is one digest of all files. The images take `size` bytes, and the decoded images of all data sets in the
    cache together take at most `max_size` bytes. If the images cannot be stored, log a warning and return None.

    Raises:
        UnreadableImageError: if an image cannot be decoded; the message contains the image's path.

    """
    key = digest_of(contents, short_side, grey_range, reading_version(PIXELS))
    found = []

    def is_whole(folder: Path) -> bool:
        try:
            found[:] = [_read(folder)]
        except DamagedArrayError:
            found.clear()
        return bool(found)

    try:
        folder = build_bounded(
            f"pixels/{key}", lambda folder: _write(folder, paths, short_side, grey_range), is_whole, size, max_size
        )
        return found[0] if found else _read(folder)
    except (OSError, DamagedArrayError) as error:
        log.warning(f"decoded images cannot be stored, so images are decoded for every epoch: {error}")
        return None


def bytes_needed(paths: Sequence[str], contents: str, short_side: int | None) -> int:
    """Return the total size of the decoded images in bytes; cache this size under `contents`, a digest of all files."""
    key = digest_of(contents, short_side, Image.MAX_IMAGE_PIXELS, reading_version(PIXELS))

    def write(part: Path) -> None:
        part.write_text(str(_counted(paths, short_side)))

    def is_whole(path: Path) -> bool:
        return path.read_bytes().isdigit()

    try:
        return int(build_once(f"pixel-counts/{key}", write, is_whole, _COUNTS_KEPT).read_text())
    except UserError:  # the cache is not writable
        return _counted(paths, short_side)


def _counted(paths: Sequence[str], short_side: int | None) -> int:
    def count(part: Sequence[str]) -> int:
        return sum(3 * pixel_count(path, short_side) + _BYTES_PER_IMAGE for path in part)

    parts = [paths[first : first + _HEADERS_PER_TASK] for first in range(0, len(paths), _HEADERS_PER_TASK)]
    return sum(in_threads_ahead(count, parts, len(parts), _HEADER_THREADS))


def _write(folder: Path, paths: Sequence[str], short_side: int | None, grey_range: GreyRange) -> None:
    sizes = []

    def pieces() -> Iterator[np.ndarray]:
        shown = tqdm(paths, "decoding images, once", leave=False, disable=not sys.stderr.isatty())
        for image in _decoded(shown, short_side, grey_range):
            sizes.append(image.shape[:2])
            yield image.reshape(-1)

    write_array(folder, "pixels", pieces())
    write_array(folder, "sizes", [np.array(sizes)])


def _decoded(paths: Iterable[str], short_side: int | None, grey_range: GreyRange) -> Iterator[np.ndarray]:
    """Yield each image as uint8 (H, W, 3). Threads decode a few images ahead, because Pillow releases the GIL."""

    def decode(path: str) -> np.ndarray:
        return np.asarray(load_rgb(path, short_side, None, grey_range))

    yield from in_threads_ahead(decode, paths, 4 * usable_cores())


def _read(folder: Path) -> StoredPixels:
    return StoredPixels(read_array(folder, "pixels"), read_array(folder, "sizes"))


def _opened(path: str, sizes: np.ndarray) -> StoredPixels | None:
    try:
        return StoredPixels(np.memmap(path, np.uint8, mode="c"), sizes)
    except FileNotFoundError:  # users may delete the cache at any time
        return None
