"""Metrics over an epoch in which every image counts the same, whatever the sizes of batches."""

from typing import Any, Literal

import torch
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError, MulticlassF1Score
from torchmetrics.utilities import dim_zero_cat

UNCHECKED: Any = {"validate_args": False}  # torchmetrics' checks would wait for the GPU at every step


def accuracy(classes: int, average: Literal["micro", "macro"] = "micro") -> MulticlassAccuracy:
    return MulticlassAccuracy(classes, average=average, **UNCHECKED)


def validation_metrics(classes: int) -> MetricCollection:
    """Return the metrics of logits or probabilities (N, classes), named `val/acc` and so on."""
    metrics = {
        "acc": accuracy(classes),
        "macro_acc": accuracy(classes, "macro"),
        "macro_f1": MulticlassF1Score(classes, average="macro", **UNCHECKED),
        "ece": MulticlassCalibrationError(classes, **UNCHECKED),
    }
    return MetricCollection(metrics, prefix="val/")


class MeanLoss(Metric):
    """Mean loss in which every image counts the same.

    torchmetrics' own mean waits for the GPU at every step to look for NaN. Lightning's own mean rounds the number
    of images per device.
    """

    total: torch.Tensor
    images: torch.Tensor

    def __init__(self):
        super().__init__()
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, loss: torch.Tensor, images: int) -> None:
        self.total += loss.detach() * images
        self.images += images

    def compute(self) -> torch.Tensor:
        return self.total / self.images


class ImageLosses(Metric):
    """Mean loss over images, summed in the images' order, so that the mean does not depend on batches or devices."""

    losses: list[torch.Tensor]

    def __init__(self):
        super().__init__()
        self.add_state("losses", [], dist_reduce_fx="cat")

    def update(self, losses: torch.Tensor) -> None:
        self.losses.append(losses)

    def compute(self) -> torch.Tensor:
        return dim_zero_cat(self.losses).mean()
