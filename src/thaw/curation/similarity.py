"""Which images are copies of each other: re-encoded, resized, mirrored, or a little cropped.

Images are looked up by the low frequencies of their cosine transform, as a perceptual hash has them, but kept as
numbers: their distance bounds that of the images from below, so that a tree of them finds all that is near without
comparing every pair. What is found is compared pixel by pixel, shifted to and fro.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from scipy.fft import dctn
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from thaw.curation.parallel import on_every_core
from thaw.data.grey import OWN
from thaw.data.images import load_rgb
from thaw.errors import UnreadableImageError

CROPPED = 0.04  # of a side, that a copy may lack at either end
_SIDE = 16  # pixels that are transformed
# Vertical and horizontal frequency; the lowest, which come first, are what is looked up.
_WAVES = sorted(((v, u) for v, u in product(range(10), repeat=2) if 0 < u + v < 10), key=sum)
_LOOKED_UP = 27
_ODD = np.array([-1.0 if u % 2 else 1.0 for _, u in _WAVES])  # waves that a mirror turns round
_NEAR = 0.45  # corresponds to a correlation of 0.9 over all pixels
_NEIGHBOURS = 5  # the image itself and four others; a larger group of copies is connected through its members
_FLAT = 2.0  # standard deviation, of 255, below which an image shows nothing that could be compared
_ALIKE = 0.93  # correlation; copies reach 0.96, different images 0.9
_PERHAPS_ALIKE = 0.85  # the same, where crops have been tried in coarse steps

_ENDS = [*product((0.0, CROPPED), repeat=4), (CROPPED / 2,) * 4]  # left, top, right, bottom
_FINE_ENDS = list(product((0.0, CROPPED / 2, CROPPED), repeat=4))
_COMPARED, _KEPT = 32, 96  # pixels


def marks_of(rgb: Image.Image) -> np.ndarray:
    """Float16 (17, D): of the whole image and of crops of it; zeros for an image without any contrast."""
    small = rgb.convert("L").resize((_KEPT, _KEPT), Image.Resampling.BILINEAR, reducing_gap=3.0)
    crops = np.array([_crop(small, ends, _SIDE) for ends in _ENDS]).reshape(len(_ENDS), _SIDE, _SIDE)
    crops -= crops.mean((1, 2), keepdims=True)
    if crops[0].std() < _FLAT:
        return np.zeros((len(_ENDS), len(_WAVES)), np.float16)
    crops /= np.linalg.norm(crops, axis=(1, 2), keepdims=True)
    waves = dctn(crops, axes=(1, 2), norm="ortho")
    return waves[:, [v for v, _ in _WAVES], [u for _, u in _WAVES]].astype(np.float16)


def similar_pairs(paths: Sequence[Path], marks: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    """Index pairs (i < j) of images that are copies of each other, as far as pixels can tell.

    Of a group of many copies not every pair is among them, but each image is with another of its group.
    """
    candidates = _candidates(np.array(marks, np.float32)) if len(paths) > 1 else []
    named = [(paths[i], paths[j]) for i, j in candidates]
    verdicts = on_every_core(_alike, named, "comparing", "pair")
    return [pair for pair, alike in zip(candidates, verdicts, strict=True) if alike]


def groups(count: int, pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """The indices below `count`, those together that `pairs` connect, each group and all of them in ascending order."""
    rows, columns = zip(*pairs, strict=True) if pairs else ((), ())
    graph = coo_matrix((np.ones(len(pairs)), (rows, columns)), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    found: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        found.setdefault(int(label), []).append(index)
    return list(found.values())


def _candidates(marks: np.ndarray) -> list[tuple[int, int]]:
    shown = np.flatnonzero(np.abs(marks).sum((1, 2)))  # a blank image is like any other
    if len(shown) < 2:
        return []
    whole, found = marks[shown, 0], set()
    tree = cKDTree(whole[:, :_LOOKED_UP])
    for crop, mirror in product(range(marks.shape[1]), (1.0, _ODD)):
        asked = marks[shown, crop] * mirror
        nearest = tree.query(asked[:, :_LOOKED_UP], _NEIGHBOURS, distance_upper_bound=_NEAR, workers=-1)[1]
        mine, others = np.repeat(np.arange(len(shown)), nearest.shape[1]), nearest.ravel()
        there = (others < len(shown)) & (others != mine)
        mine, others = mine[there], others[there]
        near = np.linalg.norm(asked[mine] - whole[others], axis=1) <= _NEAR
        pairs = np.sort(np.stack([shown[mine[near]], shown[others[near]]], axis=1), axis=1)
        found.update(map(tuple, pairs.tolist()))
    return sorted(found)


@lru_cache(1024)
def _thumbnail(path: Path) -> Image.Image | None:
    try:
        image = load_rgb(path, _KEPT, grey_range=OWN)
    except UnreadableImageError:  # it has been deleted since
        return None
    return image.resize((_KEPT, _KEPT), Image.Resampling.BILINEAR, reducing_gap=3.0)


def _alike(paths: tuple[Path, Path]) -> bool:
    a, b = map(_thumbnail, paths)
    if a is None or b is None:
        return False
    return any(
        _correlation(a, other, _ENDS) >= _PERHAPS_ALIKE and _correlation(a, other, _FINE_ENDS) >= _ALIKE
        for other in (b, ImageOps.mirror(b))
    )


def _correlation(a: Image.Image, b: Image.Image, ends: Sequence[tuple[float, ...]]) -> float:
    """The highest of one image with any crop of the other."""
    crops_a, crops_b = _vectors(a, [(0.0,) * 4, *ends]), _vectors(b, [(0.0,) * 4, *ends])
    return max((crops_a @ crops_b[0]).max(), (crops_b @ crops_a[0]).max())


def _vectors(image: Image.Image, ends: Sequence[tuple[float, ...]]) -> np.ndarray:
    """(crops, D) of length 1, whose products are correlations of the colours."""
    vectors = np.array([_crop(image, each, _COMPARED) for each in ends]).reshape(len(ends), -1)
    vectors -= vectors.mean(1, keepdims=True)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def _crop(image: Image.Image, ends: tuple[float, ...], side: int) -> np.ndarray:
    left, top, right, bottom = ends
    box = (left * _KEPT, top * _KEPT, (1 - right) * _KEPT, (1 - bottom) * _KEPT)
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, box), np.float32)
