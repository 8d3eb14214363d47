"""Metrics of predictions with 95 % confidence intervals, images being a sample."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array
from scipy.special import log_softmax

from thaw.evaluation.calibration import parts
from thaw.evaluation.evaluation import wilson

BINS = 15  # of confidences, equally wide
RESAMPLES = 1000
_AT_ONCE = 2**22  # weights of resamples in memory
MEASURES = ("macro_acc", "macro_f1", "loss", "ece", "ece_uncalibrated")
_ERRORS = (3, 4)  # indices of the calibration errors in MEASURES


@dataclass(frozen=True)
class Predictions:
    """Labels, int (n,), and logits, float (n, classes), which every method divides by `temperature`."""

    labels: np.ndarray
    logits: np.ndarray
    temperature: float

    @cached_property
    def predicted(self) -> np.ndarray:
        return self.logits.argmax(1)

    @property
    def right(self) -> np.ndarray:
        """Bool (n,): True where the prediction is correct."""
        return self.predicted == self.labels

    @property
    def confidence(self) -> np.ndarray:
        """Probability of the predicted class, float (n,) within 0..1."""
        return self._judged[0]

    @property
    def losses(self) -> np.ndarray:
        """Cross-entropy of each image in nats, float (n,)."""
        return self._judged[1]

    @cached_property
    def _judged(self) -> tuple[np.ndarray, np.ndarray]:
        found = []
        for part in parts(*self.logits.shape):
            log = log_softmax(self.logits[part].astype(float) / self.temperature, axis=1)
            found.append((np.exp(log.max(1)), -log[np.arange(len(log)), self.labels[part]]))
        confidences, losses = zip(*found, strict=True)
        return np.concatenate(confidences), np.concatenate(losses)

    @property
    def bins(self) -> np.ndarray:
        """Bin of each confidence, int (n,); a bin contains its lower edge."""
        return _bins(self.confidence)

    @property
    def ece(self) -> float:
        return calibration_error(self.confidence, self.right)

    def divided_by(self, temperature: float) -> "Predictions":
        return Predictions(self.labels, self.logits, temperature)


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Return the expected calibration error: the mean gap of confidence and accuracy in bins (Naeini et al. 2015)."""
    return float(np.abs(np.bincount(_bins(confidence), confidence - right, BINS)).sum() / len(right))


def _bins(confidence: np.ndarray) -> np.ndarray:
    return np.clip(np.searchsorted(np.linspace(0, 1, BINS + 1), confidence, side="right") - 1, 0, BINS - 1)


def overall(predictions: Predictions) -> dict[str, dict]:
    """Return each of `MEASURES` as {"value", "ci95"}; macro averages are over the classes that have images."""
    labels, predicted, right = predictions.labels, predictions.predicted, predictions.right
    n, classes = predictions.logits.shape
    of_label, of_prediction = _sums(labels, classes), _sums(predicted, classes)
    hits, losses = _sums(labels, classes, right), predictions.losses
    both = predictions, predictions.divided_by(1.0)
    gaps = [_sums(each.bins, BINS, each.confidence - each.right) for each in both]

    def measure(weights: np.ndarray) -> np.ndarray:
        counted, found = (weights @ sums for sums in (of_label, hits))
        present = counted > 0
        recall = found / np.maximum(counted, 1)
        f1 = 2 * found / np.maximum(counted + weights @ of_prediction, 1)
        macro = [np.where(present, score, 0).sum(1) / present.sum(1) for score in (recall, f1)]
        return np.stack([*macro, weights @ losses / n, *(np.abs(weights @ gap).sum(1) / n for gap in gaps)], 1)

    values, intervals = bootstrap(measure, n, biased=_ERRORS)
    for error, judged in zip(_ERRORS, both, strict=True):
        if values[error] <= _calibrated_error(judged):
            intervals[error, 0] = 0.0
    return {
        name: {"value": value, "ci95": interval}
        for name, value, interval in zip(MEASURES, values.tolist(), intervals.tolist(), strict=True)
    }


def bootstrap(
    measure: Callable[[np.ndarray], np.ndarray], n: int, biased: Sequence[int] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Return values (k,) and their 95 % percentile intervals (k, 2) from `RESAMPLES` bootstrap samples (Efron 1979).

    `measure` takes weights, float (draws, n), which count how often each image was drawn. It returns (draws, k). Every
    call draws the same samples, so metrics of the same images are paired. `biased` lists non-negative values that
    resampling inflates. Their intervals are shifted by the mean inflation.
    """
    drawn = np.concatenate([measure(weights) for weights in _resamples(n)])
    values = measure(np.ones((1, n)))[0]
    intervals = np.percentile(drawn, [2.5, 97.5], axis=0).T
    for place in biased:
        low, high = intervals[place] - (drawn[:, place].mean() - values[place])
        intervals[place] = max(low, 0.0), max(high, values[place])
    return values, intervals


def _calibrated_error(predictions: Predictions) -> float:
    """Return the ECE that a perfectly calibrated model with these confidences exceeds in 2.5 % of draws."""
    random, confidence, n = np.random.default_rng(0), predictions.confidence, len(predictions.labels)
    places, drawn = _sums(predictions.bins, BINS), []
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
    """Yield numbers of draws of n images that fit into memory together; their sum is `RESAMPLES`."""
    left = RESAMPLES
    while left:
        rows = min(left, max(1, _AT_ONCE // n))
        yield rows
        left -= rows


def _sums(groups: np.ndarray, count: int, values: np.ndarray | float = 1.0) -> csr_array:
    """Return a matrix (n, count); weights (draws, n) times it are the weighted sums of `values` in each group."""
    n = len(groups)
    return csr_array((np.broadcast_to(np.asarray(values, float), n), (np.arange(n), groups)), (n, count))


def share(right: int, n: int) -> dict | None:
    """Return the share `right` / `n` with Wilson's interval, None if `n` is 0."""
    return {"value": right / n, "ci95": wilson(right, n)} if n else None


def per_class(confusion: np.ndarray | csr_array, classes: Sequence[str]) -> list[dict]:
    """Return a row per class; the scores of a class without images are None."""
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
    rows = []
    for place in np.unique(predictions.bins):
        own = predictions.bins == place
        n = int(own.sum())
        right = share(int(predictions.right[own].sum()), n)
        edges = [place / BINS, (place + 1) / BINS]
        rows.append({"bin": edges, "n": n, "confidence": float(predictions.confidence[own].mean()), "right": right})
    return rows
