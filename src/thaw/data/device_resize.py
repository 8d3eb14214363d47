"""Crop and resize images on a device by matrix products, with exactly the same pixels as Pillow.

Pillow's weights are integers of about 22 bits and a sign. Each weight is split into a higher and a lower half of at
most 11 bits. The products of pixels and halves, and the sums of these products, are exact in float32 and in TF32. A GPU
multiplies matrices several times faster in TF32 than in float32.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from thaw.data.batch_resize import PRECISION, filter_weights

_HALF = 2**12  # weight = _HALF * higher half + lower half; the lower half can be negative
_REACH = {"bilinear": 1, "bicubic": 2}  # radius of each filter, in pixels of the resized image
_ALIGNED = 8  # a GPU multiplies matrices faster if their sides are multiples of this number


def resize_boxes(
    pixels: torch.Tensor, firsts: torch.Tensor, numbers: torch.Tensor, axes: np.ndarray, size: int, interpolation: str
) -> torch.Tensor:
    """Crop and resize N boxes of `pixels`, uint8 (P, 3), to squares, uint8 (N, 3, size, size).

    `firsts` (N,) holds the index of each image's first pixel. `axes`, int64 (N, 2, 5), holds for each image and axis
    the pixel stride, the start and length of the box, its new length, and the start of the square. The second axis is
    resized first. `numbers` is a copy of `axes` on the device of `pixels`.
    """
    stride, start, length, new_length, kept = numbers.unbind(2)
    sides = [int(longest) // _ALIGNED * _ALIGNED + _ALIGNED for longest in axes[:, :, 2].max(0)]
    steps = torch.arange(max(sides), device=pixels.device)
    places = stride[:, :, None] * (start[:, :, None] + steps.minimum(length[:, :, None] - 1))
    rows, columns = (places[:, axis, :side] for axis, side in enumerate(sides))
    boxes = pixels[(firsts[:, None] + rows)[:, :, None] + columns[:, None, :]]  # (N, height, width, 3)
    boxes = boxes.permute(0, 1, 3, 2).to(torch.float32, memory_format=torch.contiguous_format).flatten(1, 2)
    taps = int(np.ceil(2 * _REACH[interpolation] * (axes[:, :, 2] / axes[:, :, 3]).max(initial=1))) + 2
    down, across = _filters(length, new_length, kept, sides, taps, size, interpolation)
    with _tf32(pixels.device):
        lines = _rounded([boxes @ half.mT for half in across], interpolation).view(len(axes), -1, 3 * size)
        squares = _rounded([half @ lines for half in down], interpolation).view(-1, size, 3, size)
    return squares.permute(0, 2, 1, 3).to(torch.uint8, memory_format=torch.contiguous_format)


def _rounded(halves: list[torch.Tensor], interpolation: str) -> torch.Tensor:
    """Add the products with the higher and lower halves in place; round the sums to integers in 0..255."""
    higher, lower = halves  # exact multiples of _HALF / PRECISION and 1 / PRECISION, respectively
    sums = higher.add_(lower.mul_(PRECISION / _HALF).floor_(), alpha=_HALF / PRECISION).add_(0.5).floor_()
    return sums if interpolation == "bilinear" else sums.clamp_(0, 255)


def _filters(
    length: torch.Tensor,
    new_length: torch.Tensor,
    kept: torch.Tensor,
    sides: list[int],
    taps: int,
    size: int,
    interpolation: str,
) -> list[list[torch.Tensor]]:
    """Return, for each axis, both halves of Pillow's weights, divided by PRECISION: float32 (N, size, side).

    `length`, `new_length` and `kept` have the shape (N, 2). Each new pixel depends on at most `taps` source pixels.
    """
    scale = (length.double() / new_length)[:, :, None, None]
    reach = scale.clamp(min=1)
    centres = (torch.arange(size, device=length.device)[:, None] + kept[:, :, None, None] + 0.5) * scale
    first = (centres - _REACH[interpolation] * reach).floor()
    places = first + torch.arange(taps, device=length.device)  # (N, 2, size, taps)
    inside = (places >= 0) & (places < length[:, :, None, None])
    weights = filter_weights(((places - centres + 0.5) * (1 / reach)).abs(), interpolation) * inside
    whole = weights / weights.sum(3, keepdim=True) * PRECISION
    whole = (whole + 0.5 * whole.sign()).trunc()
    higher = (whole / _HALF).round()
    halves = (higher * _HALF / PRECISION).float(), ((whole - _HALF * higher) / PRECISION).float()
    places = places.long()
    return [
        [_spread(places[:, axis], inside[:, axis], half[:, axis], side) for half in halves]
        for axis, side in enumerate(sides)
    ]


def _spread(places: torch.Tensor, inside: torch.Tensor, values: torch.Tensor, side: int) -> torch.Tensor:
    """Return float32 (N, size, side): `values` (N, size, taps) in columns `places` where `inside` is True, else 0."""
    matrix = torch.zeros(*places.shape[:2], side, device=values.device)
    return matrix.scatter_(2, torch.where(inside, places, side - 1), values)


@contextmanager
def _tf32(device: torch.device) -> Iterator[None]:
    if device.type != "cuda":
        yield
        return
    settings = torch.backends.cuda.matmul
    name, fast = ("fp32_precision", "tf32") if hasattr(settings, "fp32_precision") else ("allow_tf32", True)
    before = getattr(settings, name)
    setattr(settings, name, fast)
    try:
        yield
    finally:
        setattr(settings, name, before)
