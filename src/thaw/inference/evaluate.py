"""A trained model on a folder of labelled images: everything that `evaluation.json` and the page say."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from thaw.evaluation.confusion import confused_pairs
from thaw.evaluation.corruptions import CORRUPTIONS, Corruption
from thaw.evaluation.evaluation import Evaluation
from thaw.evaluation.measures import (
    Answered,
    bootstrap,
    calibration_error,
    overall,
    per_class,
    reliability,
    share,
)
from thaw.evaluation.statistics import holm, mcnemar
from thaw.inference.answers import Answers, answers
from thaw.inference.labelled_folder import LabelledFolder
from thaw.inference.trained_model import TrainedModel
from thaw.pages.limits import CONFUSIONS, KEPT_MATRIX


@dataclass(frozen=True)
class Evaluated:
    """`facts` hold plain values alone; `worst` are the indices of the images with the highest loss, highest first."""

    model: TrainedModel
    folder: LabelledFolder
    evaluation: Evaluation
    worst: Sequence[int]
    facts: dict


def evaluate(model: TrainedModel, folder: LabelledFolder, robustness: bool = True, top: int = 24) -> Evaluated:
    """The model's answers to all images of a folder, and what follows from them.

    With `robustness` every image is also looked at with each of `CORRUPTIONS`. `top` is how many of the images with
    the highest loss are listed.

    Raises:
        UserError: if no image can be read.

    """
    corruptions = CORRUPTIONS if robustness else ()
    given = answers(model, folder.samples, corruptions)
    evaluation = Evaluation([path for path, _ in given.samples], given.labels, given.logits, model.classes)
    clean = Answered(given.labels.numpy(), given.logits.numpy(), model.temperature)
    worst = np.argsort(-clean.losses, kind="stable")[:top].tolist()
    confusion = evaluation.confusion
    few = len(model.classes) <= KEPT_MATRIX
    facts = {
        "checkpoint": str(model.source),
        "root": str(folder.root.resolve()),
        "images": len(given.samples),
        "unreadable": list(given.faults),
        "ignored": folder.ignored,
        "classes": list(model.classes),
        "missing": list(folder.missing),
        "preprocessing": asdict(model.preprocessing),
        "temperature": model.temperature,
        "acc": share(int(clean.right.sum()), len(clean.labels)),
        **overall(clean),
        "per_class": per_class(confusion, model.classes),
        "confusion": confusion.toarray().tolist() if few else None,
        "confused": confused_pairs(confusion, model.classes, CONFUSIONS),
        "reliability": {"uncalibrated": reliability(clean.divided_by(1.0)), "calibrated": reliability(clean)},
        "top_losses": [_one(evaluation, clean, folder.root, index) for index in worst],
        "robustness": _robustness(given, corruptions, clean) if robustness else None,
    }
    return Evaluated(model, folder, evaluation, worst, facts)


def _one(evaluation: Evaluation, clean: Answered, root: Path, index: int) -> dict:
    classes = evaluation.classes
    return {
        "path": Path(evaluation.paths[index]).relative_to(root).as_posix(),
        "label": classes[clean.labels[index]],
        "predicted": classes[clean.predicted[index]],
        "confidence": float(clean.confidence[index]),
        "loss": float(clean.losses[index]),
    }


def _robustness(given: Answers, corruptions: Sequence[Corruption], clean: Answered) -> list[dict]:
    """A row per corruption, each image with it held against the same image without."""
    changes = np.stack([right.astype(float) - clean.right for right, _ in given.corrupted], 1)
    n = len(clean.labels)
    drops, intervals = bootstrap(lambda weights: weights @ changes / n, n)
    ps = holm([mcnemar(right, clean.right) for right, _ in given.corrupted])
    return [
        {
            "corruption": corruption.kind,
            "severity": corruption.severity,
            "strength": corruption.strength,
            "told": corruption.told,
            "acc": share(int(right.sum()), n),
            "ece": calibration_error(confidence, right),
            "change": {"value": float(drop), "ci95": interval.tolist()},
            "p": p,
        }
        for corruption, (right, confidence), drop, interval, p in zip(
            corruptions, given.corrupted, drops, intervals, ps, strict=True
        )
    ]
