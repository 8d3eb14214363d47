"""Metrics of predictions. Their 95 % confidence intervals treat the images as a random sample."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy.sparse import csr_array
from scipy.stats import binomtest

from thaw.evaluation.calibration import fitted_temperature
from thaw.evaluation.predictions import Predictions

BINS = 15  # number of equally wide confidence bins
RESAMPLES = 1000
_AT_ONCE = 2**22  # largest number of bootstrap weights in memory
MEASURES = ("macro_acc", "macro_f1", "loss", "ece", "ece_uncalibrated")
_ERRORS = (3, 4)  # indices of the calibration errors in MEASURES


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Return the expected calibration error: the weighted mean |confidence - accuracy| of bins (Naeini et al. 2015)."""
    return float(np.abs(np.bincount(_bins(confidence), confidence - right, BINS)).sum() / len(right))


def _bins(confidence: np.ndarray) -> np.ndarray:
    return np.clip(np.searchsorted(np.linspace(0, 1, BINS + 1), confidence, side="right") - 1, 0, BINS - 1)


def metrics(predictions: Predictions) -> dict:
    """Return the metrics of `predictions` that a run's summary contains under `val` and `test`."""
    right, n = int(predictions.right.sum()), len(predictions.labels)
    macro_acc, macro_f1, loss, ece, _ = _measure(predictions)(np.ones((1, n)))[0].tolist()
    return {
        "acc": right / n,
        "acc_ci95": wilson(right, n),
        "macro_acc": macro_acc,
        "macro_f1": macro_f1,
        "loss": loss,
        "ece": ece,
        "n": n,
    }


def calibration(predictions: Predictions, crossed: Predictions) -> dict:
    """Return the `calibration` entry of a run's summary: the temperature; ECE and loss as [unscaled, scaled].

    `crossed` are the same predictions with cross-fitted temperatures, from `thaw.evaluation.calibration.held_out`.
    """
    both = predictions, crossed
    return {
        "temperature": fitted_temperature(predictions.logits, predictions.labels),
        "ece": [calibration_error(each.confidence, each.right) for each in both],
        "loss": [float(each.losses.mean()) for each in both],
    }


def overall(predictions: Predictions) -> dict[str, dict]:
    """Return {"value", "ci95"} for each metric in `MEASURES`; macro averages are over the classes that have images."""
    values, intervals = bootstrap(_measure(predictions), len(predictions.labels), biased=_ERRORS)
    for error, judged in zip(_ERRORS, (predictions, predictions.divided_by(1.0)), strict=True):
        if values[error] <= _calibrated_error(judged):
            intervals[error, 0] = 0.0
    return {
        name: {"value": value, "ci95": interval}
        for name, value, interval in zip(MEASURES, values.tolist(), intervals.tolist(), strict=True)
    }


def _measure(predictions: Predictions) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that maps image weights, float (draws, n), to the `MEASURES` of each draw, float (draws, k)."""
    labels, right = predictions.labels, predictions.right
    n, classes = predictions.logits.shape
    of_label, of_prediction = _sums(labels, classes), _sums(predictions.predicted, classes)
    hits, losses = _sums(labels, classes, right), predictions.losses
    both = predictions, predictions.divided_by(1.0)
    gaps = [_sums(_bins(each.confidence), BINS, each.confidence - right) for each in both]

    def measure(weights: np.ndarray) -> np.ndarray:
        counted, found = (weights @ sums for sums in (of_label, hits))
        present = counted > 0
        recall = found / np.maximum(counted, 1)
        f1 = 2 * found / np.maximum(counted + weights @ of_prediction, 1)
        macro = [np.where(present, score, 0).sum(1) / present.sum(1) for score in (recall, f1)]
        return np.stack([*macro, weights @ losses / n, *(np.abs(weights @ gap).sum(1) / n for gap in gaps)], 1)

    return measure


def bootstrap(
    measure: Callable[[np.ndarray], np.ndarray], n: int, biased: Sequence[int] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Return values (k,) and their 95 % percentile intervals (k, 2) from `RESAMPLES` bootstrap samples (Efron 1979).

    `measure` maps weights, float (draws, n), to metrics, float (draws, k). Weights count how often an image was drawn.
    Every call draws the same samples, so that metrics of the same images are paired. Resampling inflates some
    non-negative metrics. `biased` has their indices; the mean inflation is subtracted from their intervals.
    """
    drawn = np.concatenate([measure(weights) for weights in _resamples(n)])
    values = measure(np.ones((1, n)))[0]
    intervals = np.percentile(drawn, [2.5, 97.5], axis=0).T
    for place in biased:
        low, high = intervals[place] - (drawn[:, place].mean() - values[place])
        intervals[place] = max(low, 0.0), max(high, values[place])
    return values, intervals


def _calibrated_error(predictions: Predictions) -> float:
    """Return the ECE that a perfectly calibrated model with these confidences exceeds in 2.5 % of random draws."""
    random, confidence, n = np.random.default_rng(0), predictions.confidence, len(predictions.labels)
    places, drawn = _sums(_bins(confidence), BINS), []
    for rows in _draws_at_once(n):
        gaps = confidence - (random.random((rows, n)) < confidence)
        drawn.append(np.abs(gaps @ places).sum(1) / n)
    return float(np.percentile(np.concatenate(drawn), 97.5))


def _resamples(n: int) -> Iterator[np.ndarray]:
    random = np.random.default_rng(0)
    for rows in _draws_at_once(n):
        drawn = random.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(float)


def _draws_at_once(n: int) -> Iterator[int]:
    """Divide `RESAMPLES` draws of n images into parts that fit into memory; yield the number of draws in each part."""
    left = RESAMPLES
    while left:
        rows = min(left, max(1, _AT_ONCE // n))
        yield rows
        left -= rows


def _sums(groups: np.ndarray, count: int, values: np.ndarray | float = 1.0) -> csr_array:
    """Return a matrix (n, count); `weights @ matrix`, (draws, count), is the weighted sum of `values` in each group."""
    n = len(groups)
    return csr_array((np.broadcast_to(np.asarray(values, float), n), (np.arange(n), groups)), (n, count))


def wilson(right: int, n: int) -> list[float]:
    """Return the 95 % confidence interval of the share `right` / `n` (Wilson 1927)."""
    interval = binomtest(right, n).proportion_ci(0.95, method="wilson")
    return [float(interval.low), float(interval.high)]


def share(right: int, n: int) -> dict | None:
    """Return the share `right` / `n` with its Wilson interval, or None if `n` is 0."""
    return {"value": right / n, "ci95": wilson(right, n)} if n else None


def per_class(confusion: np.ndarray | csr_array, classes: Sequence[str]) -> list[dict]:
    """Return a row per class with recall, precision and F1; these are None for a class without images."""
    rows = []
    for name, *counts in zip(classes, confusion.diagonal(), confusion.sum(1), confusion.sum(0), strict=True):
        hits, n, predicted = map(int, counts)
        scores: dict[str, object] = {"recall": None, "precision": None, "f1": None}
        if n:
            scores = {"recall": share(hits, n), "precision": share(hits, predicted), "f1": 2 * hits / (n + predicted)}
        rows.append({"class": name, "n": n, "predicted": predicted, **scores})
    return rows


def reliability(predictions: Predictions) -> list[dict]:
    """Return a row per non-empty bin of confidences: its mean confidence and its accuracy."""
    return reliability_bins(predictions.confidence, predictions.right)


def reliability_bins(confidences: np.ndarray, outcomes: np.ndarray) -> list[dict]:
    """Return the rows of `reliability` for confidences, float (n,), and whether they came true, bool (n,)."""
    rows, bins = [], _bins(confidences)
    for place in np.unique(bins):
        own = bins == place
        n = int(own.sum())
        right = share(int(outcomes[own].sum()), n)
        edges = [place / BINS, (place + 1) / BINS]
        rows.append({"bin": edges, "n": n, "confidence": float(confidences[own].mean()), "right": right})
    return rows
