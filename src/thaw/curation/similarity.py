"""Find near-duplicates: images that were re-encoded, resized, mirrored, cropped or changed in brightness.

Similar images are not always copies, because images of one kind, such as X-rays, are all similar. Two images are copies
if they meet two conditions: they are much more similar to each other than to other images, and re-encoding can explain
their difference.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from thaw.curation.difference import Pair, excess
from thaw.curation.lookalikes import Nominations, halved, nominate
from thaw.curation.parallel import on_every_core
from thaw.curation.residues import best_pairs, far_residues, other_pairs, pair_numbers

# Residue: share of variance unexplained after alignment. Excess: difference / difference by re-encoding.
SIDE = 48  # side of a thumbnail in pixels
_FLAT = 2.0  # an image is blank below this standard deviation, on the scale 0 to 255
_EXPLAINED = 0.2  # largest residue (unexplained share of variance) of a copy
_RULE = 0.25  # quantile of the ratio (residue of a median candidate) / (residue of a far image)
_CLEARLY = 0.7  # largest ratio of a copy's residue to the residue of the image's other candidates
_DOUBTFUL, _NO_MORE = 1.0, 1.5  # largest excess of a copy: for doubtful pairs and homogeneous sets; for others
_HOMOGENEOUS = 0.15  # a set is homogeneous if the median residue of images that are no copies is below this
_CONTROLS, _ENOUGH = 100, 20  # largest number of control pairs (similar images, no copies); smallest number for a limit
_STRAY = 0.05  # share of control pairs that may be copies by mistake
_BELOW = 0.5  # largest ratio of a copy's excess to the excess of pairs that are no copies
_CERTAIN = 0.2  # in a homogeneous set, a pair with an excess below this is certainly a copy
_UNSURE, _UNLIKE = 0.75, 0.05  # largest excess of pairs to check again; a stricter _BELOW for pairs above the limit
_ALIKE = 0.85  # images look alike by design above this median correlation of nearest neighbours
_SAMPLED = 1000  # number of images from which the median correlation is estimated


def grey_thumbnail(rgb: Image.Image) -> np.ndarray:
    """Return a grey thumbnail, float16 (48, 48), with values 0 to 255; all zeros for an image without contrast."""
    grey = rgb.convert("L").convert("F").resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=3.0)
    thumbnail = np.asarray(grey, np.float16)
    return thumbnail if thumbnail.std(dtype=np.float32) >= _FLAT else np.zeros_like(thumbnail)


def similar_pairs(paths: Sequence[Path], thumbnails: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    """Return index pairs (i < j) of near-duplicates.

    The pairs connect all copies of an image, but not every two copies are a pair. The number of comparisons is limited:
    about twenty comparisons of thumbnails per image, and one comparison of full images per four images.
    """
    shown, pictures = _pictures(thumbnails)
    if len(shown) < 2:
        return []
    nominated, far = nominate(pictures)
    compared, residues = best_pairs(pictures, nominated)
    nearest, middle = other_pairs(compared, residues)
    suspects, controls, doubtful = _suspects_and_controls(compared, residues, middle, far_residues(pictures, far))
    suspected = np.isin(pair_numbers(compared), pair_numbers(compared)[suspects])
    nearest, middle = other_pairs(compared, residues, ~suspected)  # suspects may be copies
    pairs = _pairs(paths, shown, compared)
    differences = _differences(pairs, [*suspects.tolist(), *controls.tolist()])
    differences, of_controls = np.split(differences, [len(suspects)])
    limit = _limit(of_controls)
    likely = differences <= limit
    # In a homogeneous set, only a very small excess proves a copy. Pairs with a larger excess are compared with others.
    certain = _CERTAIN if len(of_controls) else limit
    copies = np.where(doubtful, differences <= _DOUBTFUL, likely & (differences <= certain))
    unsure = np.flatnonzero(~copies & ~doubtful & (differences <= max(limit, _UNSURE)))
    others = np.where(likely[unsure], middle[suspects[unsure]], nearest[suspects[unsure]])
    of_others = _differences(pairs, others.tolist())
    alone = others == suspects[unsure]  # all other candidates of the image are suspects
    of_others[likely[unsure] & alone] = np.inf
    of_others[~likely[unsure] & alone] = np.median(of_controls) if len(of_controls) else np.inf
    copies[unsure] = differences[unsure] <= np.where(likely[unsure], _BELOW, _UNLIKE) * of_others
    found = suspects[copies]
    return sorted({tuple(sorted(shown[[compared.first[n], compared.second[n]]].tolist())) for n in found})


def _differences(pairs: Sequence[Pair], which: Sequence[int]) -> np.ndarray:
    return np.array(list(on_every_core(excess, [pairs[n] for n in which], len(which), "confirming", "pair")))


def _pairs(paths: Sequence[Path], shown: np.ndarray, compared: Nominations) -> list[Pair]:
    columns = (shown[compared.first], shown[compared.second], compared.mirrored, compared.boxes)
    return [
        Pair(paths[first], paths[second], bool(mirrored), tuple(box.tolist()))
        for first, second, mirrored, box in zip(*columns, strict=True)
    ]


def _limit(of_controls: np.ndarray) -> float:
    """Return the largest excess allowed for a copy, well below that of control pairs (similar images, no copies)."""
    if len(of_controls) < _ENOUGH:
        return _NO_MORE
    return min(_DOUBTFUL, _BELOW * float(np.quantile(of_controls, _STRAY)))


def alike_by_design(thumbnails: Sequence[np.ndarray]) -> str | None:
    """Return a sentence for the user if most images look very similar to some other image, otherwise None."""
    _, pictures = _pictures(thumbnails[:: max(1, len(thumbnails) // _SAMPLED)])
    if len(pictures) < 3:
        return None
    flat = halved(pictures).reshape(len(pictures), -1)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    alike = flat @ flat.T
    np.fill_diagonal(alike, -1)
    likeness = np.median(alike.max(1))
    if likeness < _ALIKE:
        return None
    return (
        f"nearly all images look alike (correlation {likeness:.2f}), so images count as copies only "
        "if re-encoding can explain their difference"
    )


def _pictures(thumbnails: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return indices and standardised thumbnails of all images except blank ones, which would resemble any image."""
    shown = np.array([index for index, thumbnail in enumerate(thumbnails) if thumbnail.any()], np.int64)
    pictures = np.array([thumbnails[index] for index in shown], np.float32).reshape(-1, SIDE, SIDE)
    pictures -= pictures.mean((1, 2), keepdims=True)
    pictures /= pictures.std((1, 2), keepdims=True) + 1e-6
    return shown, pictures


def _suspects_and_controls(
    compared: Nominations, residues: np.ndarray, middle: np.ndarray, far: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return suspects (possible copies), control pairs (similar images), and a mask of the doubtful suspects.

    A copy has a much smaller residue than the image's other candidates. If all candidates have small residues, all may
    be copies, or the set is homogeneous. A suspect is doubtful if the other candidates are about equally similar.
    """
    usual = far[compared.first]
    # If an image has several copies, its median candidate is a copy, too. Then estimate a residue from other images.
    typical = np.quantile(residues[middle] / (usual + 1e-9), _RULE) * usual
    clear = (residues <= _CLEARLY * np.maximum(residues[middle], typical)) | (middle == np.arange(len(residues)))
    homogeneous = np.median(far) < _HOMOGENEOUS
    pair = pair_numbers(compared)
    controls = np.flatnonzero(~np.isin(pair, pair[clear]) & homogeneous)
    suspects = np.flatnonzero((residues <= np.minimum(_CLEARLY * usual, _EXPLAINED)) & (clear | ~homogeneous))
    suspects = suspects[np.argsort(residues[suspects] / (usual[suspects] + 1e-9))]
    _, once = np.unique(pair[suspects], return_index=True)
    suspects = suspects[np.sort(once)][: max(200, len(far) // 4)]
    return suspects, controls[:: max(1, len(controls) // _CONTROLS)][:_CONTROLS], ~clear[suspects]
