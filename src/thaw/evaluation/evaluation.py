"""Metrics, calibration and the table of predictions, computed from logits and labels."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from scipy.sparse import csr_array
from scipy.stats import binomtest
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multiclass_accuracy,
    multiclass_f1_score,
)

from thaw.evaluation.calibration import cross_fitted, fitted_temperature, parts
from thaw.evaluation.confusion import confusion_counts
from thaw.evaluation.predictions import COLUMNS, probability_column
from thaw.storage.files import whole_file

_BINS = 15  # of confidences


@dataclass(frozen=True)
class Evaluation:
    """Logits, float32 (n, classes), and labels, int64 (n,), of the images at `paths`, in the same order.

    Probabilities are computed in parts and never kept: with many classes they would not fit into memory.
    """

    paths: Sequence[str]
    labels: torch.Tensor
    logits: torch.Tensor
    classes: Sequence[str]

    @cached_property
    def predicted(self) -> torch.Tensor:
        return self.logits.argmax(1)

    @property
    def confidence(self) -> torch.Tensor:
        return self._judged[0]

    @cached_property
    def calibrated(self) -> torch.Tensor:
        """Confidences, float (n,), of the logits divided by the temperature."""
        return self._judge(torch.full((len(self.labels),), self.temperature))[0]

    @property
    def mistakes(self) -> torch.Tensor:
        """Bool (n,): True where the prediction is wrong."""
        return self.predicted != self.labels

    @cached_property
    def confusion(self) -> csr_array:
        """Counts (true class, predicted class)."""
        return confusion_counts(self.labels.numpy(), self.predicted.numpy(), len(self.classes))

    def metrics(self) -> dict:
        """Return the `val` entry of a run's summary."""
        count, n = len(self.classes), len(self.labels)
        right = n - int(self.mistakes.sum())
        ece, loss = self._ece_and_loss(*self._judged)
        return {
            "acc": right / n,
            "acc_ci95": wilson(right, n),
            "macro_acc": multiclass_accuracy(self.predicted, self.labels, count, average="macro").item(),
            "macro_f1": multiclass_f1_score(self.predicted, self.labels, count, average="macro").item(),
            "loss": loss,
            "ece": ece,
            "n": n,
        }

    @cached_property
    def temperature(self) -> float:
        """Temperature to divide the logits by, fitted on all images."""
        return fitted_temperature(self.logits, self.labels)

    def calibration(self) -> dict:
        """Return the `calibration` entry of a run's summary: ECE and loss without and with temperature scaling."""
        divided = self._judge(cross_fitted(self.logits, self.labels))
        both = [self._ece_and_loss(*judged) for judged in (self._judged, divided)]
        return {"temperature": self.temperature, "ece": [ece for ece, _ in both], "loss": [loss for _, loss in both]}

    def write_csv(self, path: Path, root: Path) -> None:
        """Write `predictions.csv`: a row per image, with its path relative to `root`."""
        with whole_file(path) as file:
            rows = csv.writer(file)
            rows.writerow([*COLUMNS, *map(probability_column, self.classes)])
            for part in parts(*self.logits.shape):
                probabilities = self.logits[part].softmax(1)
                labels, predicted = self.labels[part].tolist(), self.predicted[part].tolist()
                columns = self.paths[part], labels, predicted, probabilities.max(1).values.tolist()
                for image, label, predicted, confidence, row in zip(*columns, probabilities.tolist(), strict=True):
                    names = Path(image).relative_to(root).as_posix(), self.classes[label], self.classes[predicted]
                    rows.writerow([*names, f"{confidence:.6f}", *[f"{p:.6f}" for p in row]])

    @cached_property
    def _judged(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self._judge(torch.ones(len(self.labels)))

    def _judge(self, temperatures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return each image's confidence and cross-entropy, after dividing its logits by its temperature."""
        confidences, losses = [], []
        for part in parts(*self.logits.shape):
            logits = self.logits[part] / temperatures[part, None]
            confidences.append(logits.softmax(1).max(1).values)
            losses.append(F.cross_entropy(logits, self.labels[part], reduction="none"))
        return torch.cat(confidences), torch.cat(losses)

    def _ece_and_loss(self, confidence: torch.Tensor, losses: torch.Tensor) -> tuple[float, float]:
        error = binary_calibration_error(confidence, (~self.mistakes).long(), _BINS, validate_args=False)
        return error.item(), losses.mean().item()


def joined(batches: list[torch.Tensor]) -> torch.Tensor:
    """Return the rows of all batches on the CPU, and empty `batches`: memory may not hold them twice."""
    rows = torch.empty(sum(map(len, batches)), batches[0].shape[1])
    end = len(rows)
    while batches:
        batch = batches.pop()
        rows[end - len(batch) : end] = batch
        end -= len(batch)
    return rows


def wilson(right: int, n: int) -> list[float]:
    """Return the 95 % confidence interval of the share `right` / `n` (Wilson 1927)."""
    interval = binomtest(right, n).proportion_ci(0.95, method="wilson")
    return [float(interval.low), float(interval.high)]
