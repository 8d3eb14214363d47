"""The LightningModule: a staged net of which one phase's stages learn."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from lightning import LightningModule
from torch import nn
from torch.optim import Optimizer
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError, MulticlassF1Score

from thaw.models.staged import StagedNet
from thaw.strategy import Phase

Batch = tuple[torch.Tensor, torch.Tensor]


class ImageClassifier(LightningModule):
    """Trains the stages of one phase at a time; all others are frozen: no gradient, no statistics, no optimizer.

    `optimizer(parameter_groups)` and `scheduler(optimizer)` are called anew for every phase; `scheduler_interval` is
    `epoch` or `step`. `preprocessing` is kept in checkpoints beside the classes, for whoever uses the model.
    """

    def __init__(
        self,
        net: StagedNet,
        classes: Sequence[str],
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[[Optimizer], object],
        scheduler_interval: str = "epoch",
        preprocessing: dict | None = None,
    ):
        super().__init__()
        self.net = net
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.scheduler_interval = scheduler_interval
        self.description = {"model": net.config, "classes": list(classes), "preprocessing": preprocessing or {}}
        count = len(classes)
        self.train_acc = MulticlassAccuracy(count, average="micro")
        self.val_metrics = MetricCollection(
            {
                "acc": MulticlassAccuracy(count, average="micro"),
                "macro_acc": MulticlassAccuracy(count, average="macro"),
                "macro_f1": MulticlassF1Score(count, average="macro"),
                "ece": MulticlassCalibrationError(count),
            },
            prefix="val/",
        )

    def start(self, phase: Phase) -> None:
        """Let just the stages of `phase` learn."""
        self.phase = phase
        for name in self.net.stages:
            self.net.stage(name).requires_grad_(name in phase.stages)
        self.train()

    def train(self, mode: bool = True) -> "ImageClassifier":
        super().train(mode)
        for stage in self.frozen_stages().values():
            stage.eval()  # frozen batch-norm keeps and applies its stored statistics
        return self

    def frozen_stages(self) -> dict[str, nn.Module]:
        """The stages whose parameters the current phase leaves alone, by name."""
        return {name: self.net.stage(name) for name in self.net.learned_stages if name not in self.phase.stages}

    def configure_optimizers(self) -> dict:
        groups = [
            {"params": list(self.net.stage(name).parameters()), "lr": self.phase.lr, "name": name}
            for name in self.phase.stages
        ]
        optimizer = self.optimizer(groups)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.scheduler(optimizer), "interval": self.scheduler_interval},
        }

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.net(images).float()  # losses and metrics are taken in float32 whatever the net computes in

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        logits, loss = self._step(batch, "train")
        self.train_acc(logits, batch[1])
        self.log("train/acc", self.train_acc, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        logits, _ = self._step(batch, "val")
        self.val_metrics.update(logits.softmax(1), batch[1])
        self.log_dict(self.val_metrics)

    def predict_step(self, batch: Batch, index: int) -> torch.Tensor:
        return self(batch[0])

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["thaw"] = self.description

    def _step(self, batch: Batch, split: str) -> tuple[torch.Tensor, torch.Tensor]:
        images, labels = batch
        logits = self(images)
        loss = F.cross_entropy(logits, labels)
        self.log(f"{split}/loss", loss, on_step=False, on_epoch=True, batch_size=len(labels))
        return logits, loss
