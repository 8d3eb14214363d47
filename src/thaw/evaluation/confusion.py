"""Confusion matrices as sparse arrays, because with many classes most counts are 0."""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array, csr_array


def confusion_counts(labels: np.ndarray, predicted: np.ndarray, classes: int) -> csr_array:
    """Return the confusion matrix, int64 (true class, predicted class); `labels` and `predicted` are int64 (n,)."""
    return csr_array((np.ones(len(labels), np.int64), (labels, predicted)), (classes, classes))  # duplicates are summed


def confused_pairs(confusion: np.ndarray | csr_array, classes: Sequence[str], most: int = 10) -> list[dict]:
    """Return at most `most` of the most frequent mistakes, with their counts and shares of the true class's images."""
    counts, totals = coo_array(confusion), confusion.sum(1)
    found = zip(*(values.tolist() for values in (counts.row, counts.col, counts.data)), strict=True)
    pairs = [(true, predicted, count) for true, predicted, count in found if true != predicted and count]
    pairs.sort(key=lambda pair: (-pair[2], -pair[2] / totals[pair[0]], pair))
    return [
        {
            "label": classes[true],
            "predicted": classes[predicted],
            "count": count,
            "share": float(count / totals[true]),
        }
        for true, predicted, count in pairs[:most]
    ]
