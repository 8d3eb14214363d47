"""Compute residues: the share of an image's variance that another image, after alignment, leaves unexplained."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from thaw.curation.alignment import WHOLE, fit, residue
from thaw.curation.lookalikes import COARSE_BLURS, FINE_BLURS, Nominations, halved
from thaw.curation.parallel import on_every_core

_FINE = 5  # candidates per image that are compared at the full size of thumbnails
_BATCH = 64  # pairs per batch


def best_pairs(pictures: np.ndarray, nominated: Nominations) -> tuple[Nominations, np.ndarray]:
    """Return the `_FINE` best candidate pairs of each image, with improved boxes, and the residue of each pair."""
    coarse, residues = _fitted(halved(pictures), nominated, COARSE_BLURS, "comparing")
    order = np.lexsort((residues, nominated.first))
    rank = np.arange(len(order)) - np.searchsorted(nominated.first[order], nominated.first[order])
    return _fitted(pictures, coarse.take(order[rank < _FINE]), FINE_BLURS, "comparing closely")


def far_residues(pictures: np.ndarray, far: np.ndarray) -> np.ndarray:
    """Return the residue (n,) of each picture with the picture of index `far`, which is almost certainly no copy."""
    count = len(pictures)
    boxes = np.tile(np.array(WHOLE, np.float32), (count, 1))
    pairs = Nominations(np.arange(count), far, np.zeros(count, bool), boxes)
    return _fitted(pictures, _fitted(halved(pictures), pairs, COARSE_BLURS, "")[0], FINE_BLURS, "")[1]


def _fitted(
    pictures: np.ndarray, pairs: Nominations, blurs: Sequence[float], title: str
) -> tuple[Nominations, np.ndarray]:
    starts = range(0, len(pairs.first), _BATCH)
    batches = (_batch(pictures, pairs.take(slice(start, start + _BATCH))) for start in starts)  # lazy, to save memory
    fitted = list(on_every_core(partial(_fit_batch, blurs), batches, len(starts), title, "batch"))
    boxes, residues = (np.concatenate(parts) for parts in zip(*fitted, strict=True))
    return pairs._replace(boxes=boxes), residues


def _batch(pictures: np.ndarray, pairs: Nominations) -> tuple[np.ndarray, ...]:
    fixed = pictures[pairs.first]
    fixed[pairs.mirrored] = fixed[pairs.mirrored][:, :, ::-1]
    return fixed, pictures[pairs.second], pairs.boxes


def _fit_batch(blurs: Sequence[float], batch: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
    fixed, moving, boxes = batch
    boxes = fit(fixed, moving, boxes, blurs)
    return boxes, residue(fixed, moving, boxes, sigma=1.2 * blurs[-1])


def pair_numbers(compared: Nominations) -> np.ndarray:
    """Return an integer for each pair of images, which does not depend on the order of the two images or on the box."""
    low, high = np.minimum(compared.first, compared.second), np.maximum(compared.first, compared.second)
    return low * (high.max() + 1) + high


def other_pairs(
    compared: Nominations, residues: np.ndarray, among: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """For each pair, return two other pairs with the same first image: those with the least and the median residue.

    A pair without other pairs gets its own index. `among`, bool for each pair, selects which pairs may be returned.
    """
    nearest, middle = np.arange(len(residues)), np.arange(len(residues))
    starts = np.searchsorted(compared.first, np.unique(compared.first))
    for start, end in zip(starts, [*starts[1:], len(residues)], strict=True):
        ordered = start + np.argsort(residues[start:end])
        for n in range(start, end):
            others = ordered[compared.second[ordered] != compared.second[n]]
            others = others if among is None else others[among[others]]
            if len(others):
                nearest[n], middle[n] = others[0], others[len(others) // 2]
    return nearest, middle
