"""Numbers that answers to labelled images give, with 95 % intervals: how far they may be off, the images being few."""

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
_AT_ONCE = 2**22  # weights of resamples
MEASURES = ("macro_acc", "macro_f1", "loss", "ece", "ece_uncalibrated")
_ERRORS = (3, 4)  # the places of calibration errors in it


@dataclass(frozen=True)
class Answered:
    """`logits`, float (n, classes), over `temperature`, in answer to images of the classes `labels`, int (n,)."""

    labels: np.ndarray
    logits: np.ndarray
    temperature: float

    @cached_property
    def predicted(self) -> np.ndarray:
        return self.logits.argmax(1)

    @property
    def right(self) -> np.ndarray:
        """Bool (n,)"""
        return self.predicted == self.labels

    @property
    def confidence(self) -> np.ndarray:
        """Float (n,) within 0..1: the probability of the predicted class."""
        return self._judged[0]

    @property
    def losses(self) -> np.ndarray:
        """Float (n,): the cross-entropy of each image, in nats."""
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
        """Int (n,): each confidence's bin, the lower edge being part of it."""
        return _bins(self.confidence)

    @property
    def ece(self) -> float:
        return calibration_error(self.confidence, self.right)

    def divided_by(self, temperature: float) -> "Answered":
        return Answered(self.labels, self.logits, temperature)


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """How far confidence is from the share of right answers, in the mean over images (Naeini et al. 2015)."""
    return float(np.abs(np.bincount(_bins(confidence), confidence - right, BINS)).sum() / len(right))


def _bins(confidence: np.ndarray) -> np.ndarray:
    return np.clip(np.searchsorted(np.linspace(0, 1, BINS + 1), confidence, side="right") - 1, 0, BINS - 1)


def overall(answered: Answered) -> dict[str, dict]:
    """Each of `MEASURES` as {"value", "ci95"}; macro averages are over the classes that have images."""
    labels, predicted, right, n = answered.labels, answered.predicted, answered.right, len(answered.labels)
    classes = answered.logits.shape[1]
    of_label, of_prediction = _sums(labels, classes), _sums(predicted, classes)
    hits, losses = _sums(labels, classes, right), answered.losses
    both = answered, answered.divided_by(1.0)
    gaps = [_sums(a.bins, BINS, a.confidence - a.right) for a in both]

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
    """Values (k,) and their 95 % percentile intervals (k, 2) over `RESAMPLES` draws of n of n images (Efron 1979).

    `measure` takes weights, float (draws, n), how often each image was drawn, and gives (draws, k). The draws are the
    same at every call, so that whatever is measured of the same images is paired. Of the values that are not below 0
    and that drawing makes larger, `biased`, the intervals are shifted by the mean that draws differ from the value.
    """
    drawn = np.concatenate([measure(weights) for weights in _resamples(n)])
    values = measure(np.ones((1, n)))[0]
    intervals = np.percentile(drawn, [2.5, 97.5], axis=0).T
    for place in biased:
        low, high = intervals[place] - (drawn[:, place].mean() - values[place])
        intervals[place] = max(low, 0.0), max(high, values[place])
    return values, intervals


def _calibrated_error(answered: Answered) -> float:
    """Return the error that a perfectly calibrated model with these confidences exceeds in 2.5 % of draws."""
    random, confidence, n = np.random.default_rng(0), answered.confidence, len(answered.labels)
    places, drawn = _sums(answered.bins, BINS), []
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
    """Yield how many draws of n images fit into memory together, `RESAMPLES` in all."""
    left = RESAMPLES
    while left:
        rows = min(left, max(1, _AT_ONCE // n))
        yield rows
        left -= rows


def _sums(groups: np.ndarray, count: int, values: np.ndarray | float = 1.0) -> csr_array:
    """(n, count), which weights (draws, n) are multiplied by for the sums of `values` in each group."""
    n = len(groups)
    return csr_array((np.broadcast_to(np.asarray(values, float), n), (np.arange(n), groups)), (n, count))


def share(right: int, n: int) -> dict | None:
    """A share with Wilson's interval; None of nothing."""
    return {"value": right / n, "ci95": wilson(right, n)} if n else None


def per_class(confusion: np.ndarray | csr_array, classes: Sequence[str]) -> list[dict]:
    """Of counts (true class, predicted class): a row per class, its scores None where it has no image."""
    rows = []
    for name, *counts in zip(classes, confusion.diagonal(), confusion.sum(1), confusion.sum(0), strict=True):
        hits, n, predicted = map(int, counts)
        scores = dict.fromkeys(("recall", "precision", "f1"))
        if n:
            scores = {"recall": share(hits, n), "precision": share(hits, predicted), "f1": 2 * hits / (n + predicted)}
        rows.append({"class": name, "n": n, "predicted": predicted, **scores})
    return rows


def reliability(answered: Answered) -> list[dict]:
    """A row per bin of confidences that is not empty: its mean confidence against its share of right answers."""
    rows = []
    for place in np.unique(answered.bins):
        own = answered.bins == place
        n = int(own.sum())
        right = share(int(answered.right[own].sum()), n)
        edges = [place / BINS, (place + 1) / BINS]
        rows.append({"bin": edges, "n": n, "confidence": float(answered.confidence[own].mean()), "right": right})
    return rows
