"""Average precision of ranked images, and how much each image contributes to it."""

import numpy as np


def average_precision(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the average precision of each class, float (classes,), or NaN for a class that no image has.

    `labels`, bool (n, classes), says which classes an image has; `scores`, float (n, classes), are larger where the
    class is more likely. The average precision is the mean precision at the positions of the images of the class, when
    images are ranked by score; images with equal scores share a position.
    """
    return _ranked(labels, scores)[0]


def influence(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return a value per image, float (n,), whose mean is the mean average precision (mAP).

    Each value is the mAP plus n times its derivative by the weight of the image, so that the variance of the values,
    divided by n, is the variance of the mAP over random images (infinitesimal jackknife, Efron 1982).
    """
    values, influences = _ranked(labels, scores)
    present = np.isfinite(values)
    return values[present].mean() + influences[:, present].mean(1)


def _ranked(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the average precision (classes,), and n times its derivative by each image's weight (n, classes)."""
    n, classes = labels.shape
    values, influences = np.full(classes, np.nan), np.zeros((n, classes))
    for place in range(classes):
        hits = labels[:, place].astype(float)
        if hits.any():
            values[place], influences[:, place] = _of_class(hits, scores[:, place])
    return values, influences


def _of_class(hits: np.ndarray, scores: np.ndarray) -> tuple[float, np.ndarray]:
    order = np.argsort(-scores, kind="stable")
    ranked, found = scores[order], hits[order]
    # Positions: `last` is the index of the last image with the same score, `first` the index of the first one.
    starts = np.flatnonzero(np.diff(ranked, prepend=np.nan) != 0)
    ends = np.append(starts[1:], len(ranked)) - 1
    group = np.repeat(np.arange(len(starts)), ends - starts + 1)
    above = (ends + 1).astype(float)  # images at a position or above
    precision = np.cumsum(found)[ends] / above
    positives, total = np.add.reduceat(found, starts), found.sum()
    value = float(positives @ precision / total)
    # A weight on image k changes the precision at its own position and all positions below.
    below = np.cumsum((positives / above)[::-1])[::-1]
    lost = np.cumsum((positives * precision / above)[::-1])[::-1]
    change = found * (precision[group] - value) + found * below[group] - lost[group]
    influences = np.empty(len(hits))
    influences[order] = len(hits) / total * change
    return value, influences
