"""Judge a run's predictions: metrics, calibration, and what the checkpoint needs to predict in the same way."""

from dataclasses import dataclass

import numpy as np
import torch

from thaw.evaluation import calibration, label_calibration
from thaw.evaluation.label_measures import label_error, label_metrics
from thaw.evaluation.label_predictions import LabelPredictions
from thaw.evaluation.measures import calibration as calibration_entry
from thaw.evaluation.measures import metrics as metrics_entry
from thaw.evaluation.model_limits import ModelLimits, fitted_limits
from thaw.evaluation.predictions import Predictions
from thaw.evaluation.statistics import Correctness, PairedTests

AnyPredictions = Predictions | LabelPredictions
_DECIDED = ("acc", "macro_f1", "macro_f1_ci95", "micro_f1")  # metrics that depend on thresholds
_SEVERAL = "its images can have several classes"


def one_class(predictions: AnyPredictions) -> Predictions:
    """Return `predictions`, which must be for images with one class each."""
    assert isinstance(predictions, Predictions)
    return predictions


@dataclass(frozen=True)
class Judgement:
    """`calibrated` are the predictions with fitted temperatures; `metrics` and `calibration` belong into the summary.

    `description` are entries for the checkpoint: temperature, limits, and, with several classes per image, thresholds.
    """

    calibrated: AnyPredictions
    metrics: dict
    calibration: dict
    description: dict

    def calibrated_like(self, others: AnyPredictions) -> AnyPredictions:
        """Return predictions for other images with the temperatures and thresholds of `calibrated`."""
        own = self.calibrated
        if isinstance(own, LabelPredictions) and isinstance(others, LabelPredictions):
            return others.calibrated(own.temperature, own.thresholds)
        assert isinstance(own, Predictions) and isinstance(others, Predictions)
        return others.divided_by(own.temperature)


def judge(
    found: AnyPredictions, features: torch.Tensor | None, rows: torch.Tensor, groups: np.ndarray | None
) -> Judgement:
    """Judge predictions for validation images. `features` and `rows` are those of `model_limits.fitted_limits`.

    Temperatures and thresholds are fitted on these images; metrics that depend on them are cross-fitted.
    """
    if isinstance(found, LabelPredictions):
        return _judge_labels(found, groups)
    crossed = calibration.held_out(found)
    entry = calibration_entry(found, crossed)
    limits = fitted_limits(crossed, features, rows).described()
    temperature = entry["temperature"]
    description = {"temperature": temperature, **limits}
    return Judgement(found.divided_by(temperature), judged_metrics(found, groups), entry, description)


def _judge_labels(found: LabelPredictions, groups: np.ndarray | None) -> Judgement:
    temperature, thresholds = label_calibration.fitted(found)
    crossed = label_calibration.held_out(found)
    entry = {
        "temperature": temperature.tolist(),
        "thresholds": thresholds.tolist(),
        "ece": [label_error(each) for each in (found, crossed)],
        "loss": [float(each.losses.mean()) for each in (found, crossed)],
    }
    decided = {key: value for key, value in label_metrics(crossed, groups).items() if key in _DECIDED}
    limits = ModelLimits(_SEVERAL, _SEVERAL).described()
    description = {"temperature": temperature.tolist(), "thresholds": thresholds.tolist(), **limits}
    return Judgement(
        found.calibrated(temperature, thresholds), {**label_metrics(found, groups), **decided}, entry, description
    )


def judged_metrics(found: AnyPredictions, groups: np.ndarray | None) -> dict:
    """Return the metrics of predictions; with `groups`, int or str (n,), intervals treat the groups as the sample."""
    if isinstance(found, LabelPredictions):
        return label_metrics(found, groups)
    values = metrics_entry(found)
    if groups is not None:
        values["acc_ci95"] = PairedTests({"run": Correctness(found.right[None], groups)}).interval("run")
    return values


def test_metrics(tested: AnyPredictions, judgement: Judgement, groups: np.ndarray | None) -> dict:
    """Return the metrics of test images; classes are decided with the thresholds of the validation images."""
    values = judged_metrics(tested, groups)
    if isinstance(tested, LabelPredictions):
        decided = judged_metrics(judgement.calibrated_like(tested), groups)
        values |= {key: decided[key] for key in _DECIDED}
    return values
