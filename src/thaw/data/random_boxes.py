"""Draw random crop boxes and angles for many images at once, with exactly the values that torchvision draws."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

_RATIOS = torch.log(torch.tensor((3 / 4, 4 / 3))).tolist()  # bounds of log(width / height) in RandomResizedCrop
_LARGEST = 2**32 - 1
_TRIES = 10  # RandomResizedCrop takes the centre if none of this many boxes fits


class RandomBoxes(NamedTuple):
    """A random crop box for each image, and how to rotate and mirror the resized crop."""

    boxes: np.ndarray  # int64 (N, 4): top, left, height, width
    angles: torch.Tensor  # float32 (N,), degrees
    mirrored: torch.Tensor  # bool (N,)


def random_boxes(
    seeds: Sequence[int], shapes: np.ndarray, crop_scale: tuple[float, float], rotation: float
) -> RandomBoxes:
    """Return what `TrainTransform` draws for each seed and image; `shapes` are (height, width), int (N, 2)."""
    draws, rows = _draws(seeds), np.arange(len(seeds))
    tries = draws[:, : 2 * _TRIES]
    areas = shapes.prod(1)[:, None] * _uniform(tries[:, ::2], *crop_scale).numpy().astype(float)
    ratios = torch.exp(_uniform(tries[:, 1::2], *_RATIOS)).numpy().astype(float)
    heights, widths = np.sqrt(areas / ratios).round(), np.sqrt(areas * ratios).round()
    fits = (widths > 0) & (widths <= shapes[:, 1:]) & (heights > 0) & (heights <= shapes[:, :1])
    first, found = fits.argmax(1), fits.any(1)
    sides = np.stack([heights[rows, first], widths[rows, first]], 1).astype(np.int64)
    for row in np.flatnonzero(~found):
        sides[row] = _central(*shapes[row].tolist())
    room, used = shapes - sides, np.where(found, 2 * first + 2, 2 * _TRIES)
    drawn = draws[rows[:, None], used[:, None] + np.arange(2)] % (room + 1)
    corners, used = np.where(found[:, None], drawn, room // 2), used + 2 * found
    angles = _uniform(draws[rows, used], -rotation, rotation)
    return RandomBoxes(np.hstack([corners, sides]), angles, _uniform(draws[rows, used + 1], 0, 1) < 0.5)


def _draws(seeds: Sequence[int]) -> np.ndarray:
    """Return the first 24 random numbers of torch's generator for each seed, int64 (N, 24) in 0..2^32 - 1."""
    generator = torch.Generator()
    pairs = torch.empty(len(seeds), _TRIES + 2, dtype=torch.int64)  # each int64: two numbers, the higher half first
    for row, seed in zip(pairs, seeds, strict=True):
        row.random_(-(2**63), None, generator=generator.manual_seed(seed))
    return np.stack([pairs.numpy() >> 32 & _LARGEST, pairs.numpy() & _LARGEST], 2).reshape(len(seeds), -1)


def _uniform(draws: np.ndarray, low: float, high: float) -> torch.Tensor:
    """Convert `draws` to float32 from `low` to `high` as torch's `uniform_` does, which rounds only once."""
    start, width = np.float32(low), np.float32(high) - np.float32(low)
    return torch.from_numpy((draws % 2**24 * 2.0**-24 * float(width) + float(start)).astype(np.float32))


def _central(height: int, width: int) -> tuple[int, int]:
    """Return (height, width) of the largest central box that has an allowed ratio of sides."""
    return min(height, round(width / (3 / 4))), min(width, round(height * (4 / 3)))
