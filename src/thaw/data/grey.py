"""Grey of more than 8 bits: which values become black and white, decided once for all images of a data set."""

import logging
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from thaw.data.workers import usable_cores
from thaw.errors import UserError

log = logging.getLogger(__name__)

FULL = (0.0, 65535.0)  # of 16 bits
OWN = "own"  # each image's lowest and highest value, where an image is only looked at, or compared with itself
GreyRange = tuple[float, float] | str | None  # None: as checkpoints that name no range did it, by each image's type

_DEEP_ENDINGS = (".png", ".tif", ".tiff", ".pgm", ".ppm")  # of the formats that can hold it
_IMAGES, _PIXELS = 500, 10_000  # that are looked at, evenly spread: images of a data set, pixels of an image
_SHARE = 0.001  # of pixels that may be defects of a sensor, as far as they lie far out
_FAR = 0.5  # times the distance between the others


def is_deep(image: Image.Image) -> bool:
    """Whether an image is grey of 16 or 32 bits, or of floats."""
    return image.mode.startswith(("I", "F"))


def eight_bits(image: Image.Image, grey_range: GreyRange) -> Image.Image:
    """Return a deep image in mode L: `grey_range` becomes 0 to 255, and what lies outside of it black or white."""
    if grey_range is None:
        return _by_type(image)
    values = np.asarray(image).astype(np.float32)
    low, high = _own_range(values) if grey_range == OWN else grey_range
    inside = np.nan_to_num(values, nan=low, posinf=high, neginf=low).clip(low, high)
    return Image.fromarray(((inside - low) * (255 / (high - low))).round().astype(np.uint8))


def chosen_range(told: str | Sequence[float], paths: Sequence[str]) -> tuple[tuple[float, float], bool]:
    """Return the range that `data.grey_range` stands for, and whether any image of `paths` is deep.

    `auto` is the range of the values in these images; a defect of a sensor does not widen it far. It is that of 16 bits
    where none is deep.

    Raises:
        UserError: for anything but `auto` or two numbers, the lower one first.

    """
    if told != "auto":
        return _given(told), True
    deep = [path for path in paths if path.lower().endswith(_DEEP_ENDINGS)]
    places = np.linspace(0, len(deep) - 1, min(len(deep), _IMAGES)).round().astype(int)
    with ThreadPoolExecutor(usable_cores()) as pool:
        samples = [sample for sample in pool.map(_sample, (deep[place] for place in places)) if len(sample)]
    if not samples:
        return FULL, False
    if len({sample.dtype.kind == "f" for sample in samples}) > 1:
        log.warning("some images hold floats and others integers, for which data.grey_range has one range alone")
    return _common_range(np.concatenate(samples)), True


def _given(told: str | Sequence[float]) -> tuple[float, float]:
    numbers = told if isinstance(told, list | tuple) else []
    finite = [float(n) for n in numbers if type(n) in (int, float) and math.isfinite(n)]
    if len(numbers) != 2 or len(finite) != 2 or not finite[0] < finite[1]:
        raise UserError(
            f"data.grey_range={told!r} must be auto or [low,high], which become black and white, say [0,4095]."
        )
    return finite[0], finite[1]


def _sample(path: str) -> np.ndarray:
    """Some values of a deep image, its lowest and highest among them; none of another or unreadable image."""
    try:
        with Image.open(Path(path)) as image:
            if not is_deep(image):
                return np.empty(0)
            values = np.asarray(image).ravel()
    except Exception:  # of Pillow's decoders; the image is told of where it is read
        return np.empty(0)
    values = values[np.isfinite(values)]
    if len(values) <= _PIXELS:
        return values
    return np.append(values[:: len(values) // _PIXELS], [values.min(), values.max()]).astype(values.dtype)


def _common_range(values: np.ndarray) -> tuple[float, float]:
    values = values.astype(float)
    inner_low, inner_high = np.quantile(values, [_SHARE, 1 - _SHARE])
    far = _FAR * (inner_high - inner_low)
    low, high = max(values.min(), inner_low - far), min(values.max(), inner_high + far)
    return (float(low), float(high)) if low < high else (float(low), float(low) + 1)


def _own_range(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else FULL
    return (low, high) if low < high else (low, low + 1)


def _by_type(image: Image.Image) -> Image.Image:
    """By the full range of the type that an image was most likely written with, as its own maximum suggests."""
    if image.mode.startswith("I;16"):
        image, top = image.convert("I"), 65535
    else:
        _, highest = image.getextrema()
        top = next((top for top in (1, 255, 65535) if highest <= top), highest)
        if image.mode == "I" and top == 1:
            top = 255
    return image.convert("F").point(lambda value: value * (255 / top)).convert("L")
