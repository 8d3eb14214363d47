"""Evaluate a model whose images can have several classes; compute all values of `evaluation.json`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from thaw.evaluation.average_precision import influence
from thaw.evaluation.label_measures import interval, label_error, label_metrics, per_label
from thaw.evaluation.label_predictions import LabelPredictions
from thaw.evaluation.measures import reliability_bins
from thaw.inference.export.exported_model import plain
from thaw.inference.folder_predictions import predict_folder
from thaw.inference.labelled_folder import LabelledFolder
from thaw.inference.trained_model import TrainedModel


@dataclass(frozen=True)
class LabelEvaluated:
    """Evaluation on labelled images. `facts` and `worst` are those of `thaw.inference.evaluate.Evaluated`."""

    model: TrainedModel
    folder: LabelledFolder
    predictions: LabelPredictions
    worst: Sequence[int]
    facts: dict


def evaluate_labels(model: TrainedModel, folder: LabelledFolder, top: int = 24) -> LabelEvaluated:
    """Return the metrics of a model on images that can have several classes; `top` is the number of listed images.

    Raises:
        UserError: if no image can be read.

    """
    found = predict_folder(model, folder.samples, (), folder.label_sets)
    clean = found.clean
    assert isinstance(clean, LabelPredictions)
    worst = np.argsort(-clean.losses, kind="stable")[:top].tolist()
    raw = clean.calibrated(1.0, 0.5)
    facts = {
        "checkpoint": str(model.source),
        "root": str(folder.root.resolve()),
        "images": len(clean.paths),
        "unreadable": list(found.faults),
        "classes": list(model.classes),
        "missing": list(folder.missing),
        "preprocessing": asdict(model.preprocessing),
        "temperature": plain(model.temperature),
        **_overall(clean),
        "ece_uncalibrated": label_error(raw),
        "per_class": per_label(clean),
        "reliability": {
            name: reliability_bins(one.probabilities.ravel(), one.labels.ravel())
            for name, one in (("uncalibrated", raw), ("calibrated", clean))
        },
        "top_losses": [_loss_row(clean, folder.root, index) for index in worst],
    }
    return LabelEvaluated(model, folder, clean, worst, facts)


def _overall(clean: LabelPredictions) -> dict:
    values = label_metrics(clean)
    decisions = (clean.predicted == clean.labels).mean(1)
    return {
        "map": {"value": values["map"], "ci95": interval(influence(clean.labels, clean.logits))},
        "macro_f1": {"value": values["macro_f1"], "ci95": values["macro_f1_ci95"]},
        "micro_f1": values["micro_f1"],
        "acc": {"value": values["acc"], "ci95": interval(decisions)},
        "exact": {"value": float(clean.right.mean()), "ci95": interval(clean.right.astype(float))},
        "loss": values["loss"],
        "ece": values["ece"],
    }


def _loss_row(clean: LabelPredictions, root: Path, index: int) -> dict:
    return {
        "path": Path(clean.paths[index]).relative_to(root).as_posix(),
        "labels": clean.names(clean.labels[index]),
        "predicted": clean.names(clean.predicted[index]),
        "probabilities": {
            clean.classes[place]: float(clean.probabilities[index, place])
            for place in np.flatnonzero(clean.labels[index] | clean.predicted[index]).tolist()
        },
        "loss": float(clean.losses[index]),
    }
