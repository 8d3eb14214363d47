"""Convert grey images of more than 8 bits to 8 bits, with the same black and white values for a whole data set."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image

from thaw.data.workers import in_threads
from thaw.errors import UserError

log = logging.getLogger(__name__)

FULL = (0.0, 65535.0)  # all 16-bit values
OWN = "own"  # each image's lowest value becomes black, its highest white: for thumbnails and comparisons of images
GreyRange = tuple[float, float] | str | None  # None (old checkpoints): the full range of each image's type

_DEEP_ENDINGS = (".png", ".tif", ".tiff", ".pgm", ".ppm")
_IMAGES, _PIXELS = 500, 10_000  # at most this many images, and pixels of each image, are sampled
_OUTLIERS = 0.001  # share of pixels, at each end of the range, that may be sensor defects
_MARGIN = 0.5  # outliers widen each end of the range by at most this share of its width without outliers


def is_deep(image: Image.Image) -> bool:
    """Return whether an image holds 16-bit, 32-bit or floating-point grey values."""
    return image.mode.startswith(("I", "F"))


def to_eight_bits(image: Image.Image, grey_range: GreyRange) -> Image.Image:
    """Convert a grey image of more than 8 bits to mode L: scale `grey_range` to 0..255, and clip other values."""
    if grey_range is None:
        return _by_type(image)
    values = np.asarray(image).astype(np.float32)
    low, high = _own_range(values) if isinstance(grey_range, str) else grey_range
    inside = np.nan_to_num(values, nan=low, posinf=high, neginf=low).clip(low, high)
    return Image.fromarray(((inside - low) * (255 / (high - low))).round().astype(np.uint8))


def resolve_grey_range(option: str | Sequence[float], paths: Sequence[str]) -> tuple[tuple[float, float], bool]:
    """Return (low, high) for the option `data.grey_range`, and whether images in `paths` may have more than 8 bits.

    "auto" samples the images of more than 8 bits and takes the range of their grey values. Sensor defects hardly widen
    this range. If no image has more than 8 bits, the range is that of 16-bit values.

    Raises:
        UserError: if `option` is neither "auto" nor a pair [lower, higher] of numbers.

    """
    if option != "auto":
        return _two_numbers(option), True
    deep = [path for path in paths if path.lower().endswith(_DEEP_ENDINGS)]
    indices = np.linspace(0, len(deep) - 1, min(len(deep), _IMAGES)).round().astype(int)
    samples = [sample for sample in in_threads(_sample, (deep[index] for index in indices)) if len(sample)]
    if not samples:
        return FULL, False
    if len({sample.dtype.kind == "f" for sample in samples}) > 1:
        log.warning("some images hold floats and others integers, but data.grey_range is one range for all of them")
    return _common_range(np.concatenate(samples)), True


def _two_numbers(option: object) -> tuple[float, float]:
    numbers = option if isinstance(option, list | tuple) else []
    finite = [float(n) for n in numbers if type(n) in (int, float) and math.isfinite(n)]
    if len(numbers) != 2 or len(finite) != 2 or not finite[0] < finite[1]:
        raise UserError(
            f"data.grey_range={option!r} must be auto or [low,high], the values that become black and white, "
            "for example [0,4095]."
        )
    return finite[0], finite[1]


def _sample(path: str) -> np.ndarray:
    """Return some values of an image, with the lowest and highest; no values if it is unreadable or has 8 bits."""
    try:
        with Image.open(Path(path)) as image:
            if not is_deep(image):
                return np.empty(0)
            values = np.asarray(image).ravel()
    except Exception:  # Pillow raises many kinds of exceptions; loading the image later reports them
        return np.empty(0)
    values = values[np.isfinite(values)]
    if len(values) <= _PIXELS:
        return values
    return np.append(values[:: len(values) // _PIXELS], [values.min(), values.max()]).astype(values.dtype)


def _common_range(values: np.ndarray) -> tuple[float, float]:
    values = values.astype(float)
    inner_low, inner_high = np.quantile(values, [_OUTLIERS, 1 - _OUTLIERS])
    margin = _MARGIN * (inner_high - inner_low)
    low, high = max(values.min(), inner_low - margin), min(values.max(), inner_high + margin)
    return (float(low), float(high)) if low < high else (float(low), float(low) + 1)


def _own_range(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else FULL
    return (low, high) if low < high else (low, low + 1)


def _by_type(image: Image.Image) -> Image.Image:
    """Convert an image to mode L, scaled by the full range of its type; guess the type by mode and highest value."""
    if image.mode.startswith("I;16"):
        image, top = image.convert("I"), 65535
    else:
        highest = cast(float, image.getextrema()[1])  # (lowest, highest), as a grey image has only one channel
        top = next((top for top in (1, 255, 65535) if highest <= top), highest)
        if image.mode == "I" and top == 1:
            top = 255
    return image.convert("F").point(lambda value: value * (255 / top)).convert("L")
