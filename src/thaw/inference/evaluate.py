"""Evaluate a trained model on a folder of labelled images, and compute all values of `evaluation.json`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from thaw.evaluation.confusion import confused_pairs
from thaw.evaluation.corruptions import CORRUPTIONS, Corruption
from thaw.evaluation.judgement import one_class
from thaw.evaluation.measures import bootstrap, calibration_error, overall, per_class, reliability, share
from thaw.evaluation.prediction_sets import COVERAGE
from thaw.evaluation.predictions import Predictions
from thaw.evaluation.statistics import holm, mcnemar
from thaw.inference.evaluated_limits import Foreign, measured_distances, measured_sets
from thaw.inference.folder_predictions import FolderPredictions, predict_folder
from thaw.inference.labelled_folder import LabelledFolder
from thaw.inference.trained_model import TrainedModel
from thaw.pages.limits import CONFUSIONS, KEPT_MATRIX


@dataclass(frozen=True)
class Evaluated:
    """Evaluation of a model on a folder of labelled images.

    `facts` is the content of `evaluation.json`. `worst` are the indices of the images with the highest loss, in
    descending order of loss. `distances` are those of `FolderPredictions`.
    """

    model: TrainedModel
    folder: LabelledFolder
    predictions: Predictions
    worst: Sequence[int]
    facts: dict
    distances: np.ndarray | None = None
    foreign: Foreign | None = None


def evaluate(
    model: TrainedModel,
    folder: LabelledFolder,
    robustness: bool = True,
    top: int = 24,
    coverage: float = COVERAGE,
    foreign: Foreign | None = None,
) -> Evaluated:
    """Return the metrics of a model on all images of a folder.

    With `robustness`, the metrics include the accuracy for each of `CORRUPTIONS`. `top` is the number of listed
    images, which have the highest losses. `coverage` is that of prediction sets. With `foreign` images, the metrics
    include how well the model recognises them.

    Raises:
        UserError: if no image can be read.

    """
    corruptions = CORRUPTIONS if robustness else ()
    found = predict_folder(model, folder.samples, corruptions)
    clean = one_class(found.clean)
    worst = np.argsort(-clean.losses, kind="stable")[:top].tolist()
    few = len(model.classes) <= KEPT_MATRIX
    facts = {
        **_described(model, folder, found),
        "acc": share(int(clean.right.sum()), len(clean.labels)),
        **overall(clean),
        "per_class": per_class(clean.confusion, model.classes),
        "confusion": clean.confusion.toarray().tolist() if few else None,
        "confused": confused_pairs(clean.confusion, model.classes, CONFUSIONS),
        "reliability": {"uncalibrated": reliability(clean.divided_by(1.0)), "calibrated": reliability(clean)},
        "top_losses": [_loss_row(clean, folder.root, index) for index in worst],
        "robustness": _robustness(found, corruptions, clean) if robustness else None,
        "sets": measured_sets(model, clean, coverage),
        "distance": measured_distances(clean, folder.root, found.distances, foreign, top),
    }
    return Evaluated(model, folder, clean, worst, facts, found.distances, foreign)


def _described(model: TrainedModel, folder: LabelledFolder, found: FolderPredictions) -> dict:
    return {
        "checkpoint": str(model.source),
        "root": str(folder.root.resolve()),
        "images": len(found.clean.paths),
        "unreadable": list(found.faults),
        "ignored": folder.ignored,
        "classes": list(model.classes),
        "missing": list(folder.missing),
        "preprocessing": asdict(model.preprocessing),
        "temperature": model.temperature,
    }


def _loss_row(clean: Predictions, root: Path, index: int) -> dict:
    classes = clean.classes
    return {
        "path": Path(clean.paths[index]).relative_to(root).as_posix(),
        "label": classes[clean.labels[index]],
        "predicted": classes[clean.predicted[index]],
        "confidence": float(clean.confidence[index]),
        "loss": float(clean.losses[index]),
    }


def _robustness(found: FolderPredictions, corruptions: Sequence[Corruption], clean: Predictions) -> list[dict]:
    """Return a row per corruption. Intervals and p-values compare each corrupted image with its original."""
    changes = np.stack([right.astype(float) - clean.right for right, _ in found.corrupted], 1)
    n = len(clean.labels)
    drops, intervals = bootstrap(lambda weights: weights @ changes / n, n)
    ps = holm([mcnemar(right, clean.right) for right, _ in found.corrupted])
    return [
        {
            "corruption": corruption.kind,
            "severity": corruption.severity,
            "strength": corruption.strength,
            "description": corruption.description,
            "acc": share(int(right.sum()), n),
            "ece": calibration_error(confidence, right),
            "change": {"value": float(drop), "ci95": interval.tolist()},
            "p": p,
        }
        for corruption, (right, confidence), drop, interval, p in zip(
            corruptions, found.corrupted, drops, intervals, ps, strict=True
        )
    ]
