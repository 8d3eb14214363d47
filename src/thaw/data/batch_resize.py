"""Crop and resize many small images at once, with exactly the pixels that Pillow computes one image at a time."""

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
PRECISION = 2**22  # Pillow multiplies weights by this number and rounds them to integers
_MOST_PRODUCTS = 2e6  # multiplications per image; above 3e6, Pillow is faster because it skips zero weights


class Resize(NamedTuple):
    """A crop box, the size to which the box is resized, and the top left corner of the square that is then kept."""

    top: int
    left: int
    height: int
    width: int
    new_height: int
    new_width: int
    kept_top: int = 0
    kept_left: int = 0


class ImageBatch(Protocol):
    """A batch of images that can be resized together."""

    shapes: np.ndarray  # int (N, 2): height and width

    def can_resize(self, size: int, interpolation: str) -> bool:
        """Return whether `resized` is faster than Pillow and computes the same pixels as Pillow."""
        ...

    def resized(self, resizes: Sequence[Resize], size: int, interpolation: str) -> torch.Tensor:
        """Crop and resize each image as `resizes` says; return the squares, uint8 (N, 3, size, size)."""
        ...


class HostImages:
    """A batch of images in the CPU's memory, each uint8 (H, W, 3)."""

    def __init__(self, images: Sequence[np.ndarray]):
        self._images = images
        self.shapes = np.array([image.shape[:2] for image in images])

    def can_resize(self, size: int, interpolation: str) -> bool:
        height, width = self.shapes.max(0).tolist()
        products = 3 * height * size * (width + size)
        return interpolation in FILTERS and products <= _MOST_PRODUCTS and passes_order(interpolation) is not None

    def resized(self, resizes: Sequence[Resize], size: int, interpolation: str) -> torch.Tensor:
        return _resized(self._images, resizes, size, interpolation, bool(passes_order(interpolation)))


def _resized(
    images: Sequence[np.ndarray], resizes: Sequence[Resize], size: int, interpolation: str, vertical: bool
) -> torch.Tensor:
    """Resize one axis after the other by matrix products. All numbers are integers, so float64 is exact.

    With `vertical`, images for which `is_vertical_first` is True are resized vertically first.
    """
    swapped = [vertical and is_vertical_first(one) for one in resizes]
    sides = [(one.width, one.height) if swap else one[2:4] for one, swap in zip(resizes, swapped, strict=True)]
    tallest, widest = np.max(sides, 0).tolist()
    pixels = np.zeros((len(images), tallest, widest, 3), np.uint8)
    first, second = (np.zeros((len(images), size, side)) for side in (widest, tallest))
    for row, (image, one, swap) in enumerate(zip(images, resizes, swapped, strict=True)):
        box = image[one.top : one.top + one.height, one.left : one.left + one.width]
        across = _weights(one.width, one.new_width, interpolation)[one.kept_left : one.kept_left + size]
        down = _weights(one.height, one.new_height, interpolation)[one.kept_top : one.kept_top + size]
        if swap:
            box, across, down = box.transpose(1, 0, 2), down, across
        pixels[row, : box.shape[0], : box.shape[1]] = box
        first[row, :, : box.shape[1]], second[row, :, : box.shape[0]] = across, down
    lines = torch.from_numpy(pixels).permute(0, 1, 3, 2).to(torch.float64).flatten(1, 2)
    lines = _rounded(lines @ torch.from_numpy(first).mT).view(len(images), tallest, 3 * size)
    resized = _rounded(torch.from_numpy(second) @ lines).view(-1, size, 3, size).permute(0, 2, 1, 3).to(torch.uint8)
    if any(swapped):
        resized[swapped] = resized[swapped].mT
    return resized


def is_vertical_first(one: Resize) -> bool:
    """Return whether Pillow 13 or later resizes a box vertically first; older versions never do."""
    return one.height - one.new_height > 2 * max(one.width - one.new_width, 0)


def _rounded(sums: torch.Tensor) -> torch.Tensor:
    return sums.div_(PRECISION).add_(0.5).floor_().clamp_(0, 255)


@lru_cache(2**10)
def _weights(length: int, size: int, interpolation: str) -> np.ndarray:
    """Return Pillow's integer weight of each source pixel for each new pixel, float64 (size, length)."""
    scale = length / size
    centres = (np.arange(size) + 0.5) * scale
    distances = np.abs((np.arange(length) - centres[:, None] + 0.5) * (1 / max(scale, 1.0)))
    weights = filter_weights(distances, interpolation)
    shares = weights / weights.sum(1, keepdims=True) * PRECISION
    return np.trunc(shares + 0.5 * np.sign(shares))


def filter_weights(x: Any, interpolation: str) -> Any:
    """Return the filter's weight at each distance in `x`, an array or tensor of non-negative distances in pixels."""
    if interpolation == "bilinear":
        return (1 - x) * (x < 1)
    near, far = (1.5 * x - 2.5) * x * x + 1, (((x - 5) * x + 8) * x - 4) * -0.5
    return near * (x < 1) + far * ((x >= 1) & (x < 2))


@cache
def passes_order(interpolation: str) -> bool | None:
    """Return True if the installed Pillow follows `is_vertical_first`, False if it always resizes horizontally first.

    Return None if Pillow's pixels equal neither result. The order matters, because Pillow rounds after each axis.
    """
    random, size = np.random.default_rng(0), 16
    shapes = [(16, 16), (9, 30), (12, 16), (17, 16), (40, 12), (20, 18), (21, 18), (40, 20), (14, 45)]
    images = [random.integers(0, 256, (*shape, 3)).astype(np.uint8) for shape in shapes]
    wanted = [np.asarray(Image.fromarray(image).resize((size, size), FILTERS[interpolation])) for image in images]
    pillow = torch.from_numpy(np.stack(wanted)).permute(0, 3, 1, 2)
    resizes = [Resize(0, 0, *shape, size, size) for shape in shapes]
    return next(
        (way for way in (True, False) if _resized(images, resizes, size, interpolation, way).equal(pillow)), None
    )
