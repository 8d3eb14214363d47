"""Which images are copies of each other: re-encoded, resized, mirrored, cropped, or of another brightness.

Likeness alone does not make a copy: images of one kind, such as X-rays, are all alike. An image is a copy of another if
that one resembles it far more than other look-alikes do, and if both differ no more than re-encoding makes them differ.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from thaw.curation.alignment import WHOLE, fit, residue
from thaw.curation.difference import Pair, excess
from thaw.curation.lookalikes import COARSE_BLURS, FINE_BLURS, Nominations, halved, nominate
from thaw.curation.parallel import on_every_core

SIDE = 48  # pixels of a mark
_FLAT = 2.0  # standard deviation, of 255, below which an image shows nothing that could be compared
_FINE = 5  # look-alikes of an image that are compared at the full side of marks
_BATCH = 64  # comparisons at once
_EXPLAINED = 0.2  # share of an image that a copy leaves unexplained at most
_RULE = 0.25  # quantile of what the middle look-alike leaves, as a share of what a far one leaves
_CLEARLY = 0.7  # a copy differs by less than this times what other look-alikes differ by
# Times the difference that re-encoding makes: where other look-alikes differ as little, and else.
_DOUBTFUL, _NO_MORE = 1.0, 1.5
_HOMOGENEOUS = 0.15  # share of an image that a far look-alike leaves unexplained, where images are alike by design
_CONTROLS, _ENOUGH = 100, 20  # pairs of look-alikes
_STRAY = 0.05  # share of them that may be copies after all
_BELOW = 0.5  # times what the others differ by at least, a copy may differ by
_CERTAIN = 0.2  # times what re-encoding changes
_UNSURE, _UNLIKE = 0.75, 0.05  # times what re-encoding changes, and what another look-alike of the image differs by
_ALIKE = 0.85  # correlation of most images with another, from which on a set is homogeneous
_SAMPLED = 1000


def marks_of(rgb: Image.Image) -> np.ndarray:
    """Float16 (48, 48): the image in grey, reduced; zeros for an image without any contrast."""
    grey = rgb.convert("L").convert("F").resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=3.0)
    marks = np.asarray(grey, np.float16)
    return marks if marks.std(dtype=np.float32) >= _FLAT else np.zeros_like(marks)


def similar_pairs(paths: Sequence[Path], marks: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    """Index pairs (i < j) of images that are copies of each other, as far as pixels can tell.

    Of a group of many copies not every pair is among them, but each image is with another of its group. The work is
    bounded: some twenty comparisons of marks for an image, and one of the images themselves for every fourth.
    """
    shown, pictures = _pictures(marks)
    if len(shown) < 2:
        return []
    nominated, far = nominate(pictures)
    compared, left = _compared(pictures, nominated)
    nearest, middle = _others(compared, left)
    suspects, controls, doubtful = _chosen(compared, left, middle, _to_far_ones(pictures, far))
    suspected = np.isin(_numbers(compared), _numbers(compared)[suspects])
    nearest, middle = _others(compared, left, ~suspected)  # those may be copies of the same image
    pairs = _pairs(paths, shown, compared)
    differences = _differences(pairs, [*suspects, *controls])
    differences, of_controls = np.split(differences, [len(suspects)])
    limit = _limit(of_controls)
    likely = differences <= limit
    certain = _CERTAIN if len(of_controls) else limit
    copies = np.where(doubtful, differences <= _DOUBTFUL, likely & (differences <= certain))
    unsure = np.flatnonzero(~copies & ~doubtful & (differences <= max(limit, _UNSURE)))
    others = np.where(likely[unsure], middle[suspects[unsure]], nearest[suspects[unsure]])
    of_others = _differences(pairs, others)
    alone = others == suspects[unsure]  # all else that comes near may be a copy, too
    of_others[likely[unsure] & alone] = np.inf
    of_others[~likely[unsure] & alone] = np.median(of_controls) if len(of_controls) else np.inf
    copies[unsure] = differences[unsure] <= np.where(likely[unsure], _BELOW, _UNLIKE) * of_others
    found = suspects[copies]
    return sorted({tuple(sorted(shown[[compared.first[n], compared.second[n]]].tolist())) for n in found})


def _differences(pairs: Sequence[Pair], which: Sequence[int]) -> np.ndarray:
    return np.array(list(on_every_core(excess, [pairs[n] for n in which], "confirming", "pair")))


def _pairs(paths: Sequence[Path], shown: np.ndarray, compared: Nominations) -> list[Pair]:
    columns = (shown[compared.first], shown[compared.second], compared.mirrored, compared.boxes)
    return [
        Pair(paths[first], paths[second], bool(mirrored), tuple(box.tolist()))
        for first, second, mirrored, box in zip(*columns, strict=True)
    ]


def _limit(of_controls: np.ndarray) -> float:
    """Return how much copies may differ: less than look-alikes of the set do."""
    if len(of_controls) < _ENOUGH:
        return _NO_MORE
    return min(_DOUBTFUL, _BELOW * float(np.quantile(of_controls, _STRAY)))


def usual_likeness(marks: Sequence[np.ndarray]) -> float:
    """Return the correlation of images with the one most like them, the median of a sample; 0 for too few images."""
    _, pictures = _pictures(marks[:: max(1, len(marks) // _SAMPLED)])
    if len(pictures) < 3:
        return 0.0
    flat = halved(pictures).reshape(len(pictures), -1)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    alike = flat @ flat.T
    np.fill_diagonal(alike, -1)
    return float(np.median(alike.max(1)))


def alike_by_design(marks: Sequence[np.ndarray]) -> str | None:
    """Return a sentence about a set whose images are nearly all alike, None for others."""
    likeness = usual_likeness(marks)
    if likeness < _ALIKE:
        return None
    return (
        f"nearly all images look alike (correlation {likeness:.2f}), so likeness alone does not count: "
        "a copy differs no more than re-encoding makes it"
    )


def groups(count: int, pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """The indices below `count`, those together that `pairs` connect, each group and all of them in ascending order."""
    rows, columns = zip(*pairs, strict=True) if pairs else ((), ())
    graph = coo_matrix((np.ones(len(pairs)), (rows, columns)), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    found: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        found.setdefault(int(label), []).append(index)
    return list(found.values())


def _pictures(marks: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of images with contrast (a blank image is like any other), and their standardised marks."""
    shown = np.array([index for index, mark in enumerate(marks) if mark.any()], np.int64)
    pictures = np.array([marks[index] for index in shown], np.float32).reshape(-1, SIDE, SIDE)
    pictures -= pictures.mean((1, 2), keepdims=True)
    pictures /= pictures.std((1, 2), keepdims=True) + 1e-6
    return shown, pictures


def _compared(pictures: np.ndarray, nominated: Nominations) -> tuple[Nominations, np.ndarray]:
    """Return the best nominations of each image with improved boxes, and what they leave unexplained."""
    coarse, left = _fitted(halved(pictures), nominated, COARSE_BLURS, "comparing")
    order = np.lexsort((left, nominated.first))
    rank = np.arange(len(order)) - np.searchsorted(nominated.first[order], nominated.first[order])
    return _fitted(pictures, coarse.take(order[rank < _FINE]), FINE_BLURS, "comparing closely")


def _to_far_ones(pictures: np.ndarray, far: np.ndarray) -> np.ndarray:
    """Return what remains of each image where a look-alike explains it that is hardly a copy."""
    count = len(pictures)
    boxes = np.tile(np.array(WHOLE, np.float32), (count, 1))
    pairs = Nominations(np.arange(count), far, np.zeros(count, bool), boxes)
    return _fitted(pictures, _fitted(halved(pictures), pairs, COARSE_BLURS, "")[0], FINE_BLURS, "")[1]


class _Batches(Sequence):
    """What `_fit_batch` is given, made when it is asked for: all of it at once would not fit into memory."""

    def __init__(self, pictures: np.ndarray, pairs: Nominations):
        self.pictures, self.pairs = pictures, pairs

    def __len__(self) -> int:
        return -(-len(self.pairs) // _BATCH)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if index >= len(self):
            raise IndexError(index)
        pairs = self.pairs.take(slice(index * _BATCH, (index + 1) * _BATCH))
        fixed = self.pictures[pairs.first]
        fixed[pairs.mirrored] = fixed[pairs.mirrored][:, :, ::-1]
        return fixed, self.pictures[pairs.second], pairs.boxes


def _fitted(
    pictures: np.ndarray, pairs: Nominations, blurs: Sequence[float], title: str
) -> tuple[Nominations, np.ndarray]:
    batches = list(on_every_core(partial(_fit_batch, blurs), _Batches(pictures, pairs), title, "batch"))
    boxes, left = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return Nominations(pairs.first, pairs.second, pairs.mirrored, boxes), left


def _fit_batch(blurs: Sequence[float], batch: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
    fixed, moving, boxes = batch
    boxes = fit(fixed, moving, boxes, blurs)
    return boxes, residue(fixed, moving, boxes, sigma=1.2 * blurs[-1])


def _chosen(
    compared: Nominations, left: np.ndarray, middle: np.ndarray, far: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pairs that may be copies, control pairs that are merely alike, and which of the former are doubtful.

    An image's copy leaves much less of it unexplained than other look-alikes do. Where all of them leave little, they
    are copies of one image in a set of different images, and of one kind in a homogeneous set.
    """
    usual = far[compared.first]
    # Where an image has several copies, the middle look-alike is one of them: others say what it leaves as a rule.
    as_a_rule = np.quantile(left[middle] / (usual + 1e-9), _RULE) * usual
    clear = (left <= _CLEARLY * np.maximum(left[middle], as_a_rule)) | (middle == np.arange(len(left)))
    homogeneous = np.median(far) < _HOMOGENEOUS
    pair = _numbers(compared)
    controls = np.flatnonzero(~np.isin(pair, pair[clear]) & homogeneous)
    suspects = np.flatnonzero((left <= np.minimum(_CLEARLY * usual, _EXPLAINED)) & (clear | ~homogeneous))
    suspects = suspects[np.argsort(left[suspects] / (usual[suspects] + 1e-9))]
    _, once = np.unique(pair[suspects], return_index=True)
    suspects = suspects[np.sort(once)][: max(200, len(far) // 4)]
    return suspects, controls[:: max(1, len(controls) // _CONTROLS)][:_CONTROLS], ~clear[suspects]


def _numbers(compared: Nominations) -> np.ndarray:
    """Return a number for each pair: that of both orders and all boxes of two images."""
    low, high = np.minimum(compared.first, compared.second), np.maximum(compared.first, compared.second)
    return low * (high.max() + 1) + high


def _others(compared: Nominations, left: np.ndarray, among: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return for each pair the nearest and the middle other pair of its first image; itself where there is none.

    With `among`, bool for each pair, others are among those alone.
    """
    nearest, middle = np.arange(len(left)), np.arange(len(left))
    starts = np.searchsorted(compared.first, np.unique(compared.first))
    for start, end in zip(starts, [*starts[1:], len(left)], strict=True):
        ordered = start + np.argsort(left[start:end])
        for n in range(start, end):
            others = ordered[compared.second[ordered] != compared.second[n]]
            others = others if among is None else others[among[others]]
            if len(others):
                nearest[n], middle[n] = others[0], others[len(others) // 2]
    return nearest, middle
