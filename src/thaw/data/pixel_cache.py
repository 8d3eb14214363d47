"""Decoded images in the cache: what `load_rgb` gives, read back at once instead of being decoded for every epoch."""

import logging
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from thaw.data.digests import digest_of, reading_version
from thaw.data.grey import GreyRange
from thaw.data.images import load_rgb, pixel_count
from thaw.data.workers import usable_cores
from thaw.errors import UserError
from thaw.storage.arrays import DamagedArrayError, read_array, write_array
from thaw.storage.cache import build_bounded, build_once
from thaw.storage.versions import PIXELS

log = logging.getLogger(__name__)

_BYTES_BESIDE = 64  # for an image's size and checksum
_COUNTS_KEPT = 100  # entries of the cache, of some bytes each


class StoredPixels:
    """The images of a split, in its order; loader processes that are not forked open the file themselves."""

    def __init__(self, pixels: np.memmap, sizes: np.ndarray):
        """`pixels` are uint8 (all,), `sizes` int64 (N, 2) of (height, width)."""
        self.pixels, self.sizes = pixels, sizes
        self.ends = np.cumsum(3 * sizes.prod(1))

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> Image.Image:
        height, width = self.sizes[index].tolist()
        end = int(self.ends[index])
        return Image.fromarray(np.asarray(self.pixels)[end - 3 * height * width : end].reshape(height, width, 3))

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
    """What `load_rgb` gives of each path with `short_side` and `grey_range`, from the cache or put into it now.

    `contents` is the digest of the files. The images take `size` bytes of the `max_size` that all such entries of the
    cache may have. None if they cannot be kept, which is logged.

    Raises:
        UnreadableImageError: naming the path, for an image that cannot be decoded.

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
        log.warning(f"decoded images cannot be kept, so that they are decoded for every epoch: {error}")
        return None


def bytes_needed(paths: Sequence[str], contents: str, short_side: int | None) -> int:
    """Of the images at `paths` once decoded, by their headers, which are read once for the digest `contents`.

    Raises:
        UnreadableImageError: naming the path, for a file that does not begin like an image.

    """
    key = digest_of(contents, short_side, Image.MAX_IMAGE_PIXELS, reading_version(PIXELS))

    def write(part: Path) -> None:
        part.write_text(str(_counted(paths, short_side)))

    def is_whole(path: Path) -> bool:
        return path.read_bytes().isdigit()

    try:
        return int(build_once(f"pixel-counts/{key}", write, is_whole, _COUNTS_KEPT).read_text())
    except UserError:  # the cache cannot be written
        return _counted(paths, short_side)


def _counted(paths: Sequence[str], short_side: int | None) -> int:
    with ThreadPoolExecutor(usable_cores()) as pool:
        counts = pool.map(lambda path: pixel_count(path, short_side), paths)
        return sum(3 * count + _BYTES_BESIDE for count in counts)


def _write(folder: Path, paths: Sequence[str], short_side: int | None, grey_range: GreyRange) -> None:
    sizes = []

    def pieces() -> Iterator[np.ndarray]:
        shown = tqdm(paths, "decoding images, once", leave=False, disable=not sys.stderr.isatty())
        for image in _decoded(shown, short_side, grey_range):
            sizes.append(image.shape[:2])
            yield image.reshape(-1)

    write_array(folder, "pixels", pieces())
    write_array(folder, "sizes", [np.array(sizes)])


def _decoded(paths: Sequence[str], short_side: int | None, grey_range: GreyRange) -> Iterator[np.ndarray]:
    """uint8 (H, W, 3) of each path in order, a few ahead of what is taken; Pillow lets threads decode at once."""
    cores = usable_cores()
    with ThreadPoolExecutor(cores) as pool:
        rest = (
            pool.submit(lambda path: np.asarray(load_rgb(path, short_side, None, grey_range)), path) for path in paths
        )
        ahead = deque(islice(rest, 4 * cores))
        try:
            while ahead:
                yield ahead.popleft().result()
                ahead.extend(islice(rest, 1))
        finally:
            pool.shutdown(cancel_futures=True)


def _read(folder: Path) -> StoredPixels:
    return StoredPixels(read_array(folder, "pixels"), read_array(folder, "sizes"))


def _opened(path: str, sizes: np.ndarray) -> StoredPixels | None:
    try:
        return StoredPixels(np.memmap(path, np.uint8, mode="c"), sizes)
    except FileNotFoundError:  # a cache may be deleted at any time
        return None
