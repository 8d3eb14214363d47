"""What the best weights say of every validation image, and the numbers that follow from it."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from scipy.stats import binomtest
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_confusion_matrix,
    multiclass_f1_score,
)

from thaw.files import whole_file
from thaw.report.calibration import cross_fitted, fitted_temperature


@dataclass(frozen=True)
class Evaluation:
    """`logits` (n, classes) float32 and `labels` (n,) int64 of the images at `paths`, in the same order."""

    paths: Sequence[str]
    labels: torch.Tensor
    logits: torch.Tensor
    classes: Sequence[str]

    @cached_property
    def probabilities(self) -> torch.Tensor:
        return self.logits.softmax(1)

    @property
    def predicted(self) -> torch.Tensor:
        return self.logits.argmax(1)

    @property
    def confidence(self) -> torch.Tensor:
        return self.probabilities.max(1).values

    @property
    def mistakes(self) -> torch.Tensor:
        """Bool (n,)"""
        return self.predicted != self.labels

    @property
    def confusion(self) -> torch.Tensor:
        """Counts (true class, predicted class)."""
        return multiclass_confusion_matrix(self.predicted, self.labels, len(self.classes))

    def metrics(self) -> dict:
        """The `val` entry of a run's summary."""
        count, n = len(self.classes), len(self.labels)
        right = n - int(self.mistakes.sum())
        return {
            "acc": right / n,
            "acc_ci95": wilson(right, n),
            "macro_acc": multiclass_accuracy(self.predicted, self.labels, count, average="macro").item(),
            "macro_f1": multiclass_f1_score(self.predicted, self.labels, count, average="macro").item(),
            "loss": F.cross_entropy(self.logits, self.labels).item(),
            "ece": _ece(self.logits, self.labels),
            "n": n,
        }

    @cached_property
    def temperature(self) -> float:
        """By which logits are to be divided, so that of images with a confidence of p the share p is right."""
        return fitted_temperature(self.logits, self.labels)

    def calibration(self) -> dict:
        """The `calibration` entry of a run's summary: what the temperature does to images that it was not fitted on."""
        divided = cross_fitted(self.logits, self.labels)
        return {
            "temperature": self.temperature,
            "ece": [_ece(logits, self.labels) for logits in (self.logits, divided)],
            "loss": [F.cross_entropy(logits, self.labels).item() for logits in (self.logits, divided)],
        }

    def write_csv(self, path: Path, root: Path) -> None:
        """A row per image, its path relative to `root`."""
        with whole_file(path) as file:
            rows = csv.writer(file)
            rows.writerow(["path", "label", "predicted", "confidence", *self.classes])
            columns = self.paths, self.labels, self.predicted, self.confidence, self.probabilities
            for image, label, predicted, confidence, probabilities in zip(*columns, strict=True):
                names = Path(image).relative_to(root).as_posix(), self.classes[label], self.classes[predicted]
                rows.writerow([*names, f"{confidence:.6f}", *(f"{p:.6f}" for p in probabilities)])


def _ece(logits: torch.Tensor, labels: torch.Tensor) -> float:
    return multiclass_calibration_error(logits.softmax(1), labels, logits.shape[1]).item()


def wilson(right: int, n: int) -> list[float]:
    """The 95 % interval of a share (Wilson 1927)."""
    interval = binomtest(right, n).proportion_ci(0.95, method="wilson")
    return [float(interval.low), float(interval.high)]
