"""Find candidate copies: a few other images for each image, and the box in which the two images may overlap.

Three searches run, because each finds copies that the other two miss. The first compares whole images. The second
compares whole images with crops on a grid. The third aligns all images with their common content
before it compares them. It finds crops in a set of very similar images. `pictures` are standardised grey thumbnails.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from thaw.curation.alignment import WHOLE, cut, fit, residue
from thaw.curation.parallel import progress
from thaw.curation.signatures import Box, Signatures, blocks, crops, damping, unit

_COARSE, _MIDDLE, _FINE = Signatures(9), Signatures(16), Signatures(28)
_DAMPED = 48  # number of signature directions to damp, at most a tenth of the number of images
_WHOLES = [0, 1, 2, 5, 12, 25]  # ranks, by similarity, of the candidates; 12 and 25 connect large groups of copies
_MIRRORED, _CROPS, _FITTED = 2, 6, 2  # candidates per image in the other searches
_SAMPLED = 500  # number of images from which the common content is computed
_COMMON = 0.8  # skip the third search if the common content leaves more than this share of variance unexplained
_FAR = 32  # rank of a similar image that is almost certainly no copy, because few images have 32 copies
_GRIDS = [(0.04, 5), (0.06, 3), (0.1, 1), (0.0, 0)]  # arguments of `crops`, from the finest grid to no grid
_MOST = 4e10  # largest number of comparisons; this many take a few minutes


class Nominations(NamedTuple):
    """Pairs of images that may be copies.

    Image `first[n]`, mirrored if `mirrored[n]`, may show the part `boxes[n]` of image `second[n]`.
    """

    first: np.ndarray
    second: np.ndarray
    mirrored: np.ndarray
    boxes: np.ndarray

    def take(self, which: np.ndarray | slice) -> "Nominations":
        return Nominations(*(values[which] for values in self))


def nominate(pictures: np.ndarray) -> tuple[Nominations, np.ndarray]:
    """For each of `pictures` (n, side, side), return about 12 candidate copies, and the candidate of rank `_FAR`."""
    wholes, far = _whole_images(pictures)
    found = [*wholes, *_on_a_grid(pictures), *_fitted(pictures)]
    return Nominations(*(np.concatenate(parts) for parts in zip(*found, strict=True))), far


def _nominations(second: np.ndarray, mirrored: np.ndarray | bool, boxes: np.ndarray | Box) -> Nominations:
    """Flatten `second` (n, k), the k candidates of each image, and broadcast the other arguments to its shape."""
    first = np.repeat(np.arange(len(second)), second.shape[1])
    boxes = np.broadcast_to(np.asarray(boxes, np.float32), (*second.shape, 4)).reshape(-1, 4)
    return Nominations(first, second.ravel(), np.broadcast_to(mirrored, second.shape).ravel(), boxes)


def _whole_images(pictures: np.ndarray) -> tuple[list[Nominations], np.ndarray]:
    signatures = _FINE.of(pictures, WHOLE)
    damp = damping(signatures, _damped(pictures))
    mean = signatures.mean(0)
    whole = unit((signatures - mean) @ damp)
    mirrored = unit((signatures * _FINE.mirror - mean) @ damp)
    nearest = _nearest(whole, whole, _FAR)
    ranks = [rank for rank in _WHOLES if rank < nearest.shape[1]]
    found = [_nominations(nearest[:, ranks], False, WHOLE)]
    found.append(_nominations(_nearest(mirrored, whole, _MIRRORED), True, WHOLE))
    return found, nearest[:, -1]


def _nearest(queries: np.ndarray, among: np.ndarray, count: int) -> np.ndarray:
    """Return the indices (n, count) in `among` of the images most similar to each query, except the query itself."""
    count = min(count, len(among) - 1)
    found = []
    for rows in blocks(len(queries)):
        alike = queries[rows] @ among.T
        alike[np.arange(len(alike)), np.arange(rows.start, rows.stop)] = -np.inf
        best = np.argpartition(-alike, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(alike, best, 1), axis=1)
        found.append(np.take_along_axis(best, order, 1))
    return np.concatenate(found)


def _on_a_grid(pictures: np.ndarray) -> Iterator[Nominations]:
    """Compare whole images with crops of all other images."""
    step, most = next((grid for grid in _GRIDS if len(crops(*grid)) * len(pictures) ** 2 <= _MOST), _GRIDS[-1])
    tried = crops(step, most)
    whole = _COARSE.of(pictures, WHOLE)
    damp = damping(whole, _damped(pictures))
    found, outliers = [], []
    for box in progress(tried, "looking for copies", "crop"):
        cropped = _COARSE.of(pictures, box)
        mean = cropped.mean(0)
        among = unit((cropped - mean) @ damp)
        for mirror in (1, _COARSE.mirror):
            second, likeness = _most_alike(unit((whole * mirror - mean) @ damp), among)
            found.append(second)
            outliers.append(_outlying(likeness))
    best = _distinct_best(np.array(found), np.array(outliers))
    second = np.take_along_axis(np.array(found), best, 0).T
    boxes = np.array(tried, np.float32)[best.T // 2]
    yield _nominations(second, best.T % 2 == 1, boxes)


def _most_alike(queries: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    second, likeness = np.empty(len(queries), np.int64), np.empty(len(queries), np.float32)
    for rows in blocks(len(queries)):
        alike = queries[rows] @ among.T
        alike[np.arange(len(alike)), np.arange(rows.start, rows.stop)] = -2
        second[rows] = alike.argmax(1)
        likeness[rows] = np.take_along_axis(alike, second[rows, None], 1)[:, 0]
    return second, likeness


def _outlying(likeness: np.ndarray) -> np.ndarray:
    """Return the similarity of each image to its best match for one crop box, as a robust z-score over all images."""
    middle = np.median(likeness)
    return (likeness - middle) / (1.4826 * np.median(np.abs(likeness - middle)) + 0.01)


def _distinct_best(found: np.ndarray, outliers: np.ndarray) -> np.ndarray:
    """Return the indices (`_CROPS`, n) of each image's best results; those that match different images come first."""
    order = np.argsort(-outliers, axis=0)[: 4 * _CROPS]
    images = 2 * np.take_along_axis(found, order, 0) + order % 2  # a mirrored image counts as a different image
    seen = np.array([(images[:place] == images[place]).any(0) for place in range(len(images))])
    return np.take_along_axis(order, np.argsort(seen, axis=0, kind="stable")[:_CROPS], 0)


def _fitted(pictures: np.ndarray) -> Iterator[Nominations]:
    """Compare images after aligning them with the common content of the set; yield nothing without such content."""
    tried = crops(0.04, 5)
    frame = _frame(pictures, tried)
    if frame is None:
        return
    own = _boxes_in(frame, pictures, tried)
    signatures = _MIDDLE.of(_beyond(pictures, own, frame), WHOLE)
    mean, damp = signatures.mean(0), damping(signatures, _damped(pictures))
    among = unit((signatures - mean) @ damp)
    yield _nominations(second := _nearest(among, among, _FITTED), False, _relative(own[:, None], own[second]))
    mirrored = np.ascontiguousarray(pictures[:, :, ::-1])
    boxes = _boxes_in(frame, mirrored, tried)
    signatures = _MIDDLE.of(_beyond(mirrored, boxes, frame), WHOLE)
    second = _nearest(unit((signatures - mean) @ damp), among, _FITTED)
    yield _nominations(second, True, _relative(boxes[:, None], own[second]))


def _frame(pictures: np.ndarray, tried: Sequence[Box]) -> np.ndarray | None:
    """Return the content that most pictures share, (side, side), or None if they share too little."""
    sample = pictures[:: max(1, len(pictures) // _SAMPLED)]
    frame = np.median(sample, axis=0)
    boxes = _boxes_in(frame, sample, tried)
    left = residue(sample, np.broadcast_to(frame, sample.shape), boxes)
    if np.median(left) > _COMMON:
        return None
    placed, inside = cut(sample, _relative(np.array(WHOLE, np.float32), boxes))
    usual = left <= 1.5 * np.median(left)
    return (placed * inside)[usual].sum(0) / np.maximum(inside[usual].sum(0), 1)


def _boxes_in(frame: np.ndarray, pictures: np.ndarray, tried: Sequence[Box]) -> np.ndarray:
    """For each picture, return the most similar box of `frame`, (n, 4). The search starts from the boxes `tried`."""
    parts = unit(np.concatenate([_COARSE.of(frame[None], box) for box in tried]))
    boxes = np.array(tried, np.float32)[(unit(_COARSE.of(pictures, WHOLE)) @ parts.T).argmax(1)]
    for start in range(0, len(pictures), 64):
        part = slice(start, start + 64)
        fixed, moving = halved(pictures[part]), np.broadcast_to(halved(frame[None]), (len(boxes[part]), 24, 24))
        boxes[part] = fit(fixed, moving, boxes[part], COARSE_BLURS)
        moving = np.broadcast_to(frame, pictures[part].shape)
        boxes[part] = fit(pictures[part], moving, boxes[part], FINE_BLURS)
    return boxes


COARSE_BLURS, FINE_BLURS = (3.0, 2.0, 1.5), (1.2, 1.2, 0.8)


def halved(pictures: np.ndarray) -> np.ndarray:
    count, side, _ = pictures.shape
    return pictures.reshape(count, side // 2, 2, side // 2, 2).mean((2, 4))


def _beyond(pictures: np.ndarray, boxes: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Align each picture with `frame` and subtract `frame`; pixels outside the picture become 0."""
    placed, inside = cut(pictures, _relative(np.array(WHOLE, np.float32), boxes))
    count = inside.sum((1, 2), keepdims=True) + 1e-6
    common = (frame - (frame * inside).sum((1, 2), keepdims=True) / count) * inside
    own = (placed - (placed * inside).sum((1, 2), keepdims=True) / count) * inside
    contrast = (own * common).sum((1, 2), keepdims=True) / ((common * common).sum((1, 2), keepdims=True) + 1e-6)
    return own / np.maximum(contrast, 0.3) - common


def _relative(boxes: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Convert `boxes` from fractions of a picture to fractions of the boxes `inside` in the same picture."""
    starts, ends = inside[..., 0::2], inside[..., 1::2]
    scaled = [(boxes[..., corner::2] - starts) / (ends - starts) for corner in (0, 1)]
    return np.stack(scaled, -1).reshape(*scaled[0].shape[:-1], 4).astype(np.float32)


def _damped(pictures: np.ndarray) -> int:
    return min(_DAMPED, len(pictures) // 10)
