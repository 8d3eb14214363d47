"""Align pairs of images: find the crop box in one image whose content matches the other image.

All functions work on batches of square grey images, float32 (n, side, side), because a Python loop over pairs would be
slow. A box is (top, bottom, left, right) in fractions of the image's side.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

WHOLE = (0.0, 1.0, 0.0, 1.0)
_FARTHEST = 0.45  # an edge of a box may move inwards by this fraction of the side
_OUTSIDE = 0.1  # an edge of a box may move outwards by this fraction of the side
_STEP = 0.04  # largest move of a box's edge in one step, as a fraction of the side
_BLURS = (2.5, 2.5, 1.8, 1.8, 1.2, 1.2, 0.8)  # standard deviations in pixels of a 48 × 48 image


def fit(fixed: np.ndarray, moving: np.ndarray, boxes: np.ndarray, blurs: Sequence[float] = _BLURS) -> np.ndarray:
    """Return `boxes` (n, 4), adjusted to match `moving` to `fixed`; brightness and contrast may differ."""
    boxes = boxes.astype(np.float32)
    for sigma in blurs:
        kernel = _blur(fixed.shape[1], sigma * fixed.shape[1] / 48)
        boxes = boxes + _improvement(kernel @ fixed @ kernel.T, moving, boxes, kernel)
        boxes[:, 0::2] = boxes[:, 0::2].clip(-_OUTSIDE, _FARTHEST)
        boxes[:, 1::2] = boxes[:, 1::2].clip(1 - _FARTHEST, 1 + _OUTSIDE)
    return boxes


def cut(images: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the crops of `images` at `boxes`, resized to the images' size, and a mask: 1 inside the image, else 0."""
    rows, inside_rows = _samples(images.shape[1], boxes[:, 0], boxes[:, 1])
    columns, inside_columns = _samples(images.shape[2], boxes[:, 2], boxes[:, 3])
    return rows @ images @ columns.swapaxes(1, 2), inside_rows[:, :, None] * inside_columns[:, None, :]


def residue(fixed: np.ndarray, moving: np.ndarray, boxes: np.ndarray, sigma: float = 1.0) -> np.ndarray:
    """Return the share (n,) of the variance of `fixed` that the crops of `moving` leave unexplained."""
    pictures, inside = cut(moving, boxes)
    kernel = _blur(fixed.shape[1], sigma * fixed.shape[1] / 48)
    return 1 - _correlation(kernel @ fixed @ kernel.T, kernel @ pictures @ kernel.T, _without_rim(inside)) ** 2


def _correlation(a: np.ndarray, b: np.ndarray, inside: np.ndarray) -> np.ndarray:
    count = inside.sum((1, 2), keepdims=True) + 1e-9
    a = (a - (a * inside).sum((1, 2), keepdims=True) / count) * inside
    b = (b - (b * inside).sum((1, 2), keepdims=True) / count) * inside
    norms = (a * a).sum((1, 2)) * (b * b).sum((1, 2))
    return ((a * b).sum((1, 2)) / np.sqrt(norms + 1e-9)).clip(0, 1)


def _improvement(blurred: np.ndarray, moving: np.ndarray, boxes: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Return a Gauss-Newton step (n, 4) for the boxes, solved together with brightness and contrast."""
    pictures, inside = cut(moving, boxes)
    pictures = kernel @ pictures @ kernel.T
    inside = _without_rim(inside)
    down, across = np.gradient(pictures, 1 / pictures.shape[1], axis=(1, 2))
    heights, widths = (boxes[:, 1::2] - boxes[:, 0::2]).T[:, :, None, None]
    down, across = down / heights, across / widths
    place = _places(pictures.shape[1])
    terms = [pictures, np.ones_like(pictures)]
    terms += [down * (1 - place)[:, None], down * place[:, None], across * (1 - place), across * place]
    terms = (np.stack(terms, 1) * inside[:, None]).reshape(len(boxes), 6, -1)
    solved = _least_squares(terms, (blurred * inside).reshape(len(boxes), -1, 1))
    contrast = solved[:, :1]
    step = np.where(contrast > 0.1, solved[:, 2:] / np.where(contrast > 0.1, contrast, 1), 0)
    longest = np.abs(step).max(1, keepdims=True)
    return (step * np.minimum(1, _STEP / np.maximum(longest, 1e-9))).astype(np.float32)


def _least_squares(terms: np.ndarray, target: np.ndarray) -> np.ndarray:
    products = (terms @ terms.swapaxes(1, 2)).astype(np.float64)
    diagonal = np.arange(terms.shape[1])
    products[:, diagonal, diagonal] *= 1 + 1e-4  # a ridge term, because the pixels may not determine all unknowns
    products[:, diagonal, diagonal] += 1e-6
    return np.linalg.solve(products, (terms @ target).astype(np.float64))[:, :, 0]


def _places(side: int) -> np.ndarray:
    return ((np.arange(side) + 0.5) / side).astype(np.float32)


def _without_rim(inside: np.ndarray) -> np.ndarray:
    """Set the rim of the mask to 0, because pixels there have no neighbours for blurs and gradients."""
    inside = inside.copy()
    rim = max(1, inside.shape[1] // 32)
    inside[:, :rim] = inside[:, -rim:] = inside[:, :, :rim] = inside[:, :, -rim:] = 0
    return inside


def _samples(side: int, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return cubic resampling matrices (n, side, side), and a mask (n, side) of the points inside the image."""
    places = (starts[:, None] + (ends - starts)[:, None] * _places(side)) * side - 0.5
    apart = np.abs(places.clip(0, side - 1)[:, :, None] - np.arange(side, dtype=np.float32))
    near, far = (1.5 * apart - 2.5) * apart**2 + 1, ((2.5 - 0.5 * apart) * apart - 4) * apart + 2
    weights = np.where(apart < 1, near, np.where(apart < 2, far, 0))
    inside = (places > -0.75) & (places < side - 0.25)
    return (weights / weights.sum(2, keepdims=True)).astype(np.float32), inside.astype(np.float32)


@lru_cache
def _blur(side: int, sigma: float) -> np.ndarray:
    """Return the matrix (side, side) of a Gaussian blur with mirrored padding."""
    apart = np.arange(-round(4 * sigma), round(4 * sigma) + 1)  # weights beyond this may be denormal, which is slow
    kernel = np.exp(-0.5 * (apart / sigma) ** 2)
    source = np.arange(side)[:, None] + apart
    source = np.where(source % (2 * side) < side, source % side, side - 1 - source % side)
    matrix = np.zeros((side, side))
    np.add.at(matrix, (np.arange(side)[:, None], source), kernel / kernel.sum())
    return matrix.astype(np.float32)
