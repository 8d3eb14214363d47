"""Metrics of predictions for images that can have several classes, with 95 % confidence intervals."""

import numpy as np

from thaw.evaluation.average_precision import average_precision, influence
from thaw.evaluation.label_predictions import LabelPredictions
from thaw.evaluation.measures import calibration_error, share, wilson
from thaw.evaluation.statistics import Correctness, PairedTests


def label_metrics(given: LabelPredictions, groups: np.ndarray | None = None) -> dict:
    """Return the metrics that a run's summary contains under `val` and `test`.

    `map` is the mean average precision of the classes; `acc` the share of classes that are decided correctly; `ece`
    the calibration error of the probabilities of all classes. F1 scores of classes that no image has are left out.
    """
    units, f1 = influence(given.labels, given.logits), _f1_influence(given)
    hits = int((given.labels & given.predicted).sum())
    return {
        "map": float(units.mean()),
        "map_ci95": interval(units, groups),
        "acc": float((given.predicted == given.labels).mean()),
        "macro_f1": float(f1.mean()),
        "macro_f1_ci95": interval(f1, groups),
        "micro_f1": 2 * hits / max(1, int(given.labels.sum() + given.predicted.sum())),
        "loss": float(given.losses.mean()),
        "ece": label_error(given),
        "n": len(given.labels),
    }


def interval(units: np.ndarray, groups: np.ndarray | None = None) -> list[float]:
    """Return the 95 % interval of the mean of `units`, a value per image, float (n,), which is between 0 and 1.

    With `groups`, the groups of images are the sample.
    """
    if len(units) < 2:
        return [0.0, 1.0]
    return list(PairedTests({"": Correctness(units[None], groups)}).interval(""))


def label_error(given: LabelPredictions) -> float:
    """Return the expected calibration error of the probabilities of all classes."""
    return calibration_error(given.probabilities.ravel(), given.labels.ravel())


def per_label(given: LabelPredictions) -> list[dict]:
    """Return a row per class: average precision and F1 with intervals, recall, precision, and the threshold.

    Scores are None for a class that no image has.
    """
    values = average_precision(given.labels, given.logits)
    thresholds = np.broadcast_to(given.thresholds, given.logits.shape)[0]
    rows = []
    for place, name in enumerate(given.classes):
        labels, predicted = given.labels[:, [place]], given.predicted[:, [place]]
        n, chosen, hits = int(labels.sum()), int(predicted.sum()), int((labels & predicted).sum())
        row = {"class": name, "n": n, "predicted": chosen, "threshold": float(thresholds[place])}
        scores: dict[str, object] = {"ap": None, "f1": None, "recall": None, "precision": None}
        if n:
            own = LabelPredictions(given.paths, labels, given.logits[:, [place]], [name])
            units = _f1_units(labels, predicted)
            scores = {
                "ap": _of_few(float(values[place]), influence(own.labels, own.logits), n),
                "f1": _of_few(float(units.mean()), units, (n + chosen + 1) // 2),
                "recall": share(hits, n),
                "precision": share(hits, chosen),
            }
        rows.append(row | scores)
    return rows


def _of_few(value: float, units: np.ndarray, n: int) -> dict:
    """Return a score with its interval. If the score is 0 or 1, only `n` images say how certain it is."""
    extreme = min(value, 1 - value) < 1e-12
    return {"value": value, "ci95": wilson(round(value * n), n) if extreme else interval(units)}


def _f1_influence(given: LabelPredictions) -> np.ndarray:
    present = given.labels.any(0)
    return _f1_units(given.labels[:, present], given.predicted[:, present])


def _f1_units(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return a value per image, whose mean is the macro F1, like those of `average_precision.influence`."""
    both = labels.astype(float) + predicted
    total = both.sum(0)
    f1 = 2 * (labels & predicted).sum(0) / total
    return (f1 + len(labels) * (2 * (labels & predicted) - f1 * both) / total).mean(1)
