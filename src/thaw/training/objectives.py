"""Loss and metrics for images of one class each, and for images with several classes."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MultilabelAccuracy, MultilabelAveragePrecision, MultilabelF1Score

from thaw.data.label_sets import LabelSets
from thaw.training.epoch_metrics import UNCHECKED, accuracy, validation_metrics

Loss = Callable[..., torch.Tensor]


class OneClass(nn.Module):
    """Each image has one class: softmax and cross-entropy. Labels are class indices, int64 (N,)."""

    decisive = "val/acc"  # the metric that chooses the best epoch
    columns = ("train/loss", "train/acc", "val/loss", "val/acc", "val/macro_acc")  # of metrics.csv

    def __init__(self, classes: int):
        super().__init__()
        self._classes = classes

    def train_accuracy(self) -> Metric:
        return accuracy(self._classes)

    def validation_metrics(self) -> MetricCollection:
        return validation_metrics(self._classes)

    def targets(self, labels: torch.Tensor) -> torch.Tensor:
        """Return what the training loss and the metrics compare with logits."""
        return labels

    def training_loss(self, loss: Loss) -> Loss:
        """Return the loss that trains; `loss` is the configured one."""
        return loss

    def losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the validation loss of each image, float (N,)."""
        return F.cross_entropy(logits, labels, reduction="none")

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.softmax(1)

    def predicted(self, logits: torch.Tensor) -> torch.Tensor:
        """Return what the training accuracy compares with `targets`; smaller than the logits if possible."""
        return logits.argmax(1)


class SeveralClasses(nn.Module):
    """An image can have several classes, or none: sigmoid and binary cross-entropy, summed over the classes.

    Labels are rows of `members`, int64 (N,); the accuracy is the share of classes that are decided correctly.
    """

    decisive = "val/map"
    columns = ("train/loss", "train/acc", "val/loss", "val/map", "val/acc", "val/macro_f1")
    members: torch.Tensor

    def __init__(self, members: torch.Tensor):
        super().__init__()
        self.register_buffer("members", members.float(), persistent=False)

    def train_accuracy(self) -> Metric:
        return MultilabelAccuracy(self.members.shape[1], average="micro", **UNCHECKED)

    def validation_metrics(self) -> MetricCollection:
        classes: Any = self.members.shape[1]
        metrics: dict[str, Metric | MetricCollection] = {
            "map": MultilabelAveragePrecision(classes, average="macro", **UNCHECKED),
            "acc": MultilabelAccuracy(classes, average="micro", **UNCHECKED),
            "macro_f1": MultilabelF1Score(classes, average="macro", **UNCHECKED),
        }
        return MetricCollection(metrics, prefix="val/")

    def targets(self, labels: torch.Tensor) -> torch.Tensor:
        return self.members[labels]

    def training_loss(self, loss: Loss) -> Loss:
        """Return binary cross-entropy in place of cross-entropy, or the user's own loss."""
        plain = loss.func if isinstance(loss, partial) else loss
        if plain is not F.cross_entropy:
            return loss
        options = loss.keywords if isinstance(loss, partial) else {}
        return partial(_summed, smoothing=options.get("label_smoothing", 0.0))

    def losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.binary_cross_entropy_with_logits(logits, self.targets(labels), reduction="none").sum(1)

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.sigmoid()

    def predicted(self, logits: torch.Tensor) -> torch.Tensor:
        return logits > 0


Objective = OneClass | SeveralClasses


def objective(classes: int, label_sets: LabelSets) -> Objective:
    """Return the objective for images with `classes` classes, whose labels are explained by `label_sets`."""
    return OneClass(classes) if label_sets.members is None else SeveralClasses(torch.from_numpy(label_sets.members))


def _summed(logits: torch.Tensor, targets: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Return the binary cross-entropy, summed over classes: a class then trains as fast as if it were the only one."""
    smoothed = targets * (1 - smoothing) + smoothing / 2
    return F.binary_cross_entropy_with_logits(logits, smoothed, reduction="none").sum(1).mean()
