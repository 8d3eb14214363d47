"""Measure the difference between two images, relative to the change that JPEG re-encoding causes."""

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

_SIDE = 192  # size at which images are compared, in pixels
_READ = 512  # short side at which images are read, in pixels
_BLURS = (0.6, 0.4, 0.3, 0.3)  # blurs for `fit`; small, because the boxes are almost correct already
_QUALITY = 40  # JPEG quality of the reference re-encoding
_BLOCKS = 12  # number of blocks along a side of the image; each block is also compared by itself
_LOCAL = 4.0  # a block of a copy may have this many times the difference allowed for the whole image
_COLOURS = 48  # size at which colours are compared, in pixels
_ROUNDING = 0.01  # squared error of rounding, on the scale 0 to 255, added to the error of re-encoding
_FEW = 0.2  # compare all pixels if less than this share of them is comparable
_GREY = 2.0  # an image is grey if the standard deviation of its colours is below this, on the scale 0 to 255
_TOLERATED, _TOLERATED_SHARE = 3.0, 0.35  # allowed colour difference: this constant plus this share of the spread


@dataclass(frozen=True)
class Pair:
    """Possible copies: `first`, or its mirror image, may show the part `box` (top, bottom, left, right) of `second`."""

    first: Path
    second: Path
    mirrored: bool
    box: tuple[float, ...]


def excess(pair: Pair) -> float:
    """Return the difference between two images, divided by the difference that JPEG re-encoding makes.

    Changes of brightness and contrast do not count. Copies have a ratio below 1, unless one of the two has a JPEG
    quality below `_QUALITY`. The ratio is infinite if the colours differ or an image cannot be read.
    """
    try:
        first, second = _read(pair.first), _read(pair.second)
    except UnreadableImageError:  # the file was deleted after its inspection
        return np.inf
    if pair.mirrored:
        first = ImageOps.mirror(first)
    first, second = _same_part(first, second, _fitted(first, second, pair.box))
    if _colours_differ(first, second):
        return np.inf
    compared = _clipped(first) == _clipped(second)
    return _brightness_excess(first.convert("L"), second.convert("L"), compared | (compared.mean() < _FEW))


@lru_cache(32)
def _read(path: Path) -> Image.Image:
    return load_rgb(path, _READ, grey_range=OWN)


def _fitted(first: Image.Image, second: Image.Image, box: tuple[float, ...]) -> np.ndarray:
    fixed, moving = (_array(image.convert("L"), _SIDE)[None] for image in (first, second))
    scale = moving.std() + 1e-6
    return fit(fixed / scale, moving / scale, np.array([box]), _BLURS)[0]


def _same_part(first: Image.Image, second: Image.Image, box: np.ndarray) -> tuple[Image.Image, Image.Image]:
    """Crop both images to the part that both show, and resize the crops to the smaller of their two sizes."""
    starts, ends = box[0::2], box[1::2]
    low, high = starts.clip(0), ends.clip(max=1)
    parts = [((low - starts) / (ends - starts), (high - starts) / (ends - starts)), (low, high)]
    sizes = [
        np.array(image.size[::-1]) * (end - start) for image, (start, end) in zip((first, second), parts, strict=True)
    ]
    height, width = np.minimum(*sizes).round().astype(int).clip(8)

    def cut_out(image: Image.Image, start: np.ndarray, end: np.ndarray) -> Image.Image:
        left, right = float(start[1] * image.width), float(end[1] * image.width)
        top, bottom = float(start[0] * image.height), float(end[0] * image.height)
        return image.resize((width, height), Image.Resampling.BICUBIC, (left, top, right, bottom))

    return cut_out(first, *parts[0]), cut_out(second, *parts[1])


def _colours_differ(first: Image.Image, second: Image.Image) -> bool:
    """Return whether colours differ more than a change of lighting can explain; False if one image is grey."""
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
    """Return a mask of pixels clipped to black or white, which no change of brightness can restore."""
    values = np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC, reducing_gap=3.0))
    return gaussian_filter(((values < 3) | (values > 252)).any(2).astype(np.float32), 1.5) > 0.1


def _brightness_excess(first: Image.Image, second: Image.Image, compared: np.ndarray) -> float:
    images = (first, second, _encoded(first), _encoded(second))
    one, other, *encoded = [gaussian_filter(_array(image, _SIDE), 1.0) for image in images]
    explained = _as_bright(other, one, compared)
    gain = explained[compared].std() / (other[compared].std() + 1e-6)
    found = _blocks((one - explained) ** 2 * compared)
    # Take the larger loss of the two images: an image that was a JPEG already loses little when it is encoded again.
    lost = [(encoded[0] - one) ** 2, ((encoded[1] - other) * gain) ** 2]
    usual = np.maximum(*(_blocks(each * compared) for each in lost)) + _ROUNDING
    local = found / (usual + usual.mean() / 2)
    return float(max(found.mean() / usual.mean(), local.max() / _LOCAL))


def _as_bright(image: np.ndarray, other: np.ndarray, compared: np.ndarray) -> np.ndarray:
    """Return `image` with its brightness mapped by the cubic curve that fits `other` best."""
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
