"""Temperature and decision threshold of each class, for images that can have several classes."""

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit

from thaw.evaluation.label_predictions import LabelPredictions

# A class with fewer images, or fewer images without it, uses the value fitted on all classes together.
_FEW, _FEW_FOR_THRESHOLD = 10, 3
_FOLDS = 5
_LIMITS = np.log([0.02, 50.0])


def fitted(given: LabelPredictions, rows: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the temperatures and thresholds, each float (classes,), fitted on the images `rows` (all if None).

    A temperature minimises the cross-entropy of sigmoid(logits / T); its labels are smoothed (Platt 1999). A threshold
    maximises F1, and applies to probabilities after scaling.
    """
    rows = np.arange(len(given.labels)) if rows is None else rows
    logits, labels = given.logits[rows].astype(float), given.labels[rows]
    temperatures = _per_class(_temperature, logits, labels, _FEW)
    return temperatures, _per_class(_threshold, expit(logits / temperatures), labels, _FEW_FOR_THRESHOLD)


def held_out(given: LabelPredictions) -> LabelPredictions:
    """Return the predictions, each with temperatures and thresholds that were fitted without its image."""
    n = len(given.labels)
    fold = np.random.default_rng(0).permutation(n) % _FOLDS
    temperatures, thresholds = np.ones(given.logits.shape), np.full(given.logits.shape, 0.5)
    for number in range(_FOLDS):
        others = np.flatnonzero(fold != number)
        if 0 < len(others) < n:
            temperatures[fold == number], thresholds[fold == number] = fitted(given, others)
    return given.calibrated(temperatures, thresholds)


def _per_class(
    fit: Callable[[np.ndarray, np.ndarray], float], scores: np.ndarray, labels: np.ndarray, few: int
) -> np.ndarray:
    counts = labels.sum(0)
    enough = np.minimum(counts, len(labels) - counts) >= few
    shared = 0.0 if enough.all() else fit(scores.ravel(), labels.ravel())
    return np.array([fit(scores[:, k], labels[:, k]) if good else shared for k, good in enumerate(enough)])


def _temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    positives = labels.sum()
    negatives = len(labels) - positives
    target = np.where(labels, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(log: float) -> float:
        scaled = logits * np.exp(-log)
        return float((np.logaddexp(0, scaled) - target * scaled).mean())

    return float(np.exp(minimize_scalar(loss, bounds=_LIMITS, method="bounded").x))


def _threshold(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the middle between two probabilities that gives the largest F1; 0.5 if no image has the class."""
    order = np.argsort(-probabilities, kind="stable")
    ranked, hits = probabilities[order], np.cumsum(labels[order])
    if not len(hits) or not hits[-1]:
        return 0.5
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + hits[-1])
    f1[:-1][ranked[:-1] == ranked[1:]] = -1  # images with equal probabilities are decided in the same way
    best = int(f1.argmax())
    return float((ranked[best] + (ranked[best + 1] if best + 1 < len(ranked) else 0.0)) / 2)
