"""Compute signatures: short vectors of images or crops, whose dot products measure similarity.

A signature holds low frequencies of the cosine transform. `damping` shrinks the directions in which the set varies
most, such as brightness. Two images that agree only in these directions are of the same kind, but are not copies.
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import product

import numpy as np

Box = tuple[float, float, float, float]  # top, bottom, left, right, in fractions of the side


class Signatures:
    """Signatures made of cosine waves with fewer than `waves` half periods along each axis."""

    def __init__(self, waves: int):
        self.waves = waves
        down, across = np.mgrid[:waves, :waves]
        frequency = np.hypot(down, across).ravel()
        self._used = np.flatnonzero((frequency >= 1) & (frequency < waves))
        self._weights = frequency[self._used].astype(np.float32)  # high frequencies are weak in photographs
        self.mirror = np.where(across.ravel()[self._used] % 2, -1, 1).astype(np.float32)

    def of(self, pictures: np.ndarray, box: Box) -> np.ndarray:
        """Return the signatures (n, D) of the same box of each picture (n, side, side)."""
        top, bottom, left, right = box
        rows = _transform(self.waves, pictures.shape[1], top, bottom)
        columns = _transform(self.waves, pictures.shape[2], left, right)
        return (rows @ pictures @ columns.T).reshape(len(pictures), -1)[:, self._used] * self._weights


@lru_cache(maxsize=1024)  # each search uses the same boxes again
def _transform(waves: int, side: int, start: float, end: float) -> np.ndarray:
    """Return the matrix (waves, side) of the cosine transform from `start` to `end`, in fractions of the side."""
    samples = 2 * waves
    middle = (np.arange(samples) + 0.5) / samples
    places = ((start + middle * (end - start)) * side - 0.5).clip(0, side - 1)
    sampling = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(side)))
    cosines = np.cos(np.pi * np.arange(waves)[:, None] * middle) / samples
    return (cosines @ sampling).astype(np.float32)


def damping(signatures: np.ndarray, directions: int) -> np.ndarray:
    """Return a matrix (D, D) that shrinks the first `directions` principal directions to the variance of the next."""
    apart = signatures - signatures.mean(0)
    variances, axes = np.linalg.eigh((apart.T @ apart / len(apart)).astype(np.float64))
    level = variances[max(0, len(variances) - 1 - directions)]
    return (axes * np.sqrt(np.minimum(1, level / np.maximum(variances, 1e-12)))).astype(np.float32)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def crops(step: float, most: int) -> list[Box]:
    """Return a grid of nearly square boxes, whose sides are at most `most * step` shorter than the image's side."""
    ends = [(lack, at * step, 1 - (lack - at) * step) for lack in range(most + 1) for at in range(lack + 1)]
    if most:
        ends.append((1, step / 2, 1 - step / 2))
    pairs = product(ends, ends)
    return [(top, bottom, left, right) for (a, top, bottom), (b, left, right) in pairs if abs(a - b) <= 1]


def blocks(count: int, memory: float = 1.6e7) -> Iterator[slice]:
    """Split the rows of a matrix (count, count) into slices of about `memory` numbers."""
    rows = max(1, int(memory / max(count, 1)))
    return (slice(start, min(start + rows, count)) for start in range(0, count, rows))
