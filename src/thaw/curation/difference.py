"""What differs between two images, measured by what re-encoding one of them would change."""

import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from scipy.ndimage import gaussian_filter

from thaw.curation.alignment import fit
from thaw.data.grey import OWN
from thaw.data.images import load_rgb
from thaw.errors import UnreadableImageError

_SIDE = 192  # pixels that are compared
_READ = 512  # of the short side
_BLURS = (0.6, 0.4, 0.3, 0.3)  # the boxes are nearly right
_QUALITY = 40  # of the JPEG that a copy may have been
_BLOCKS = 12  # along a side, that are compared one by one
_LOCAL = 4.0  # times as far as the whole may a block be from what re-encoding does
_COLOURS = 48  # pixels of a side, at which colours are compared
_ROUNDING = 0.01  # squared, of 255, in what re-encoding changes
_FEW = 0.2  # of the pixels; fewer do not decide
_GREY = 2.0  # standard deviation of colour, of 255, below which an image is grey
_TOLERATED, _TOLERATED_SHARE = 3.0, 0.35  # of colour: in values, and of what the image has


@dataclass(frozen=True)
class Pair:
    """`first`, mirrored or not, may show the `box` (top, bottom, left, right, in parts) of `second`."""

    first: Path
    second: Path
    mirrored: bool
    box: tuple[float, ...]


def excess(pair: Pair) -> float:
    """Return how many times as much two images differ as one of them does from a JPEG of itself.

    Brightness and contrast do not count. Copies are below 1, unless they have been encoded worse than that JPEG.
    """
    try:
        first, second = _read(pair.first), _read(pair.second)
    except UnreadableImageError:  # it has been deleted since
        return np.inf
    if pair.mirrored:
        first = ImageOps.mirror(first)
    first, second = _same_part(first, second, _fitted(first, second, pair.box))
    if _colours_differ(first, second):
        return np.inf
    compared = _clipped(first) == _clipped(second)
    return _of_brightness(first.convert("L"), second.convert("L"), compared | (compared.mean() < _FEW))


@lru_cache(32)
def _read(path: Path) -> Image.Image:
    return load_rgb(path, _READ, grey_range=OWN)


def _fitted(first: Image.Image, second: Image.Image, box: tuple[float, ...]) -> np.ndarray:
    fixed, moving = (_array(image.convert("L"), _SIDE)[None] for image in (first, second))
    scale = moving.std() + 1e-6
    return fit(fixed / scale, moving / scale, np.array([box]), _BLURS)[0]


def _same_part(first: Image.Image, second: Image.Image, box: np.ndarray) -> tuple[Image.Image, Image.Image]:
    """Return what both images show, at the smaller of both sizes."""
    starts, ends = box[0::2], box[1::2]
    low, high = starts.clip(0), ends.clip(max=1)
    parts = [((low - starts) / (ends - starts), (high - starts) / (ends - starts)), (low, high)]
    sizes = [
        np.array(image.size[::-1]) * (end - start) for image, (start, end) in zip((first, second), parts, strict=True)
    ]
    height, width = np.minimum(*sizes).round().astype(int).clip(8)
    corners = [
        (start[1] * image.width, start[0] * image.height, end[1] * image.width, end[0] * image.height)
        for image, (start, end) in zip((first, second), parts, strict=True)
    ]
    return tuple(
        image.resize((width, height), Image.Resampling.BICUBIC, tuple(map(float, box)))
        for image, box in zip((first, second), corners, strict=True)
    )


def _colours_differ(first: Image.Image, second: Image.Image) -> bool:
    """Whether colour differs between images that are not grey; light of another colour is allowed for."""
    colours = [_colours(image) for image in (first, second)]
    if min(colour.std(0).max() for colour in colours) < _GREY:
        return False
    known = np.column_stack([colours[1], np.ones(len(colours[1]))])
    left = colours[0] - known @ np.linalg.lstsq(known, colours[0], rcond=None)[0]
    return np.sqrt((left**2).mean()) > _TOLERATED + _TOLERATED_SHARE * colours[0].std(0).max()


def _colours(image: Image.Image) -> np.ndarray:
    small = image.convert("YCbCr").resize((_COLOURS, _COLOURS), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.asarray(small, np.float32)[:, :, 1:].reshape(-1, 2)


def _clipped(image: Image.Image) -> np.ndarray:
    """Return where a channel has reached either end, so that a change of brightness cannot be undone."""
    values = np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC, reducing_gap=3.0))
    return gaussian_filter(((values < 3) | (values > 252)).any(2).astype(np.float32), 1.5) > 0.1


def _of_brightness(first: Image.Image, second: Image.Image, compared: np.ndarray) -> float:
    values = [_array(image, _SIDE) for image in (first, second, _encoded(first), _encoded(second))]
    first, second, *encoded = (gaussian_filter(value, 1.0) for value in values)
    explained = _as_bright(second, first, compared)
    gain = explained[compared].std() / (second[compared].std() + 1e-6)
    found = _blocks((first - explained) ** 2 * compared)
    lost = [(encoded[0] - first) ** 2, ((encoded[1] - second) * gain) ** 2]  # a JPEG loses little when encoded again
    usual = np.maximum(*(_blocks(each * compared) for each in lost)) + _ROUNDING
    local = found / (usual + usual.mean() / 2)
    return float(max(found.mean() / usual.mean(), local.max() / _LOCAL))


def _as_bright(image: np.ndarray, other: np.ndarray, compared: np.ndarray) -> np.ndarray:
    """Return `image` with its brightness changed by the cubic curve that brings it closest to `other`."""
    middle, spread = image[compared].mean(), image[compared].std() + 1e-6
    powers = np.vander(((image - middle) / spread).ravel(), 4)
    curve = np.linalg.lstsq(powers[compared.ravel()], other[compared], rcond=None)[0]
    return (powers @ curve).reshape(image.shape)


def _blocks(values: np.ndarray) -> np.ndarray:
    side = len(values) // _BLOCKS
    return values.reshape(_BLOCKS, side, _BLOCKS, side).mean((1, 3))


def _array(image: Image.Image, side: int) -> np.ndarray:
    return np.asarray(image.convert("F").resize((side, side), Image.Resampling.BICUBIC, reducing_gap=3.0))


def _encoded(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "jpeg", quality=_QUALITY)
    return Image.open(file)
