"""Temperature scaling: divide logits by a fitted temperature, so that confidence matches accuracy."""

from collections.abc import Iterator

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from thaw.evaluation.predictions import Predictions, parts

_LEAST = 0.02
_LEAST_MARGIN = 0.01  # smallest allowed median gap between the top two logits after scaling, far above rounding errors
_FOLDS = 5


def fitted_temperature(logits: np.ndarray, labels: np.ndarray, rows: np.ndarray | None = None) -> float:
    """Return the temperature T that minimises the cross-entropy of softmax(logits / T) (Guo et al. 2017).

    `logits` are float (n, classes), `labels` int64 (n,). `rows`, int64 indices, select the images to fit on. Labels are
    smoothed with a weight of 1 / (images + 2), so that T stays finite even without mistakes (Platt 1999).
    """
    rows = np.arange(len(labels)) if rows is None else rows
    share = 1 / (len(rows) + 2)
    pieces = [rows[part] for part in parts(len(rows), logits.shape[1])]

    def scores() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return ((torch.from_numpy(logits[piece]).double(), torch.from_numpy(labels[piece])) for piece in pieces)

    wanted = torch.cat([(1 - share) * x.gather(1, y[:, None])[:, 0] + share * x.mean(1) for x, y in scores()])
    margins = torch.cat([x.topk(2).values for x, _ in scores()])

    def loss(inverse: float) -> float:
        total = sum((inverse * x).logsumexp(1).sum().item() for x, _ in scores())
        return total / len(rows) - inverse * wanted.mean().item()

    margin = np.median((margins[:, 0] - margins[:, 1]).numpy())
    most = max(1.0, margin / _LEAST_MARGIN)  # the upper limit of T; only an untrained network reaches it
    # Search log T: over 1/T the loss is convex, but flat far from its minimum.
    found = minimize_scalar(lambda log: loss(np.exp(-log)), bounds=(np.log(_LEAST), np.log(most)), method="bounded")
    return float(np.exp(found.x))


def cross_fitted(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return a temperature for each image, float (n,), fitted on the folds without this image (cross-validation)."""
    fold = np.random.default_rng(0).permutation(len(labels)) % _FOLDS
    temperatures = np.ones(len(labels))
    for number in range(_FOLDS):
        others = np.flatnonzero(fold != number)
        if 0 < len(others) < len(labels):
            temperatures[fold == number] = fitted_temperature(logits, labels, others)
    return temperatures


def held_out(predictions: Predictions) -> Predictions:
    """Return the same predictions, each with the temperature that was fitted without its image."""
    return predictions.divided_by(cross_fitted(predictions.logits, predictions.labels))
