"""The LightningModule: a staged net of which one phase's parameters learn."""

import logging
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from lightning import LightningModule
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, ReduceLROnPlateau
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError, MulticlassF1Score
from torchmetrics.utilities import dim_zero_cat

from thaw.models.head import fold_head, standardized_keys
from thaw.models.staged import StagedNet
from thaw.strategy.freezing import set_trainable, set_training_modes
from thaw.strategy.phases import Phase
from thaw.training.schedules import PerStep, advance

log = logging.getLogger(__name__)

Batch = tuple[torch.Tensor, torch.Tensor]


class ImageClassifier(LightningModule):
    """Trains what one phase says at a time; all else is frozen: no gradient, no statistics, no optimizer.

    `optimizer(parameter_groups)` and `scheduler(optimizer)` are called anew for every phase; a scheduler that is
    stepped after every batch comes as `PerStep`. Training minimises `loss(logits, labels)` of batches that have gone
    through `mix`, if there is one, which makes labels (N,) to shares (N, classes). With `class_weights` the loss is
    called with `weight=class_weights`.
    With `keep_statistics` batch-norms apply their stored statistics, also where their weights learn.
    `preprocessing` is kept in checkpoints beside the classes, for whoever uses the model. Where batches of a split are
    features instead of images, `entries` names the stage at which they enter the net. `solution` holds what a phase
    with a solver says of the head that it found, plain values alone.
    """

    def __init__(
        self,
        net: StagedNet,
        classes: Sequence[str],
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | PerStep,
        loss: Callable[..., torch.Tensor] = F.cross_entropy,
        class_weights: torch.Tensor | None = None,
        mix: Callable | None = None,
        preprocessing: dict | None = None,
        keep_statistics: bool = False,
    ):
        super().__init__()
        self.phase: Phase | None = None
        self.net = net
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.loss = loss
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.mix = mix
        self.keep_statistics = keep_statistics
        self.description = {"model": net.config, "classes": list(classes), "preprocessing": preprocessing or {}}
        self.entries: dict[str, str | None] = {"train": None, "val": None}
        self.solution: dict | None = None
        self._total_before: int | None = None  # epochs of a run whose number of them has changed
        count = len(classes)
        self.train_loss, self.val_loss = MeanLoss(), ImageLosses()
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
        """Let just the parameters of `phase` learn."""
        self.phase = phase
        self.entries = dict.fromkeys(self.entries)
        set_trainable(self.net, phase.parameters)
        self.train()

    def train(self, mode: bool = True) -> "ImageClassifier":
        super().train(mode)
        if mode:
            set_training_modes(self.net, self.keep_statistics)
        if self.phase and self.phase.solver:
            self.net.eval()
        return self

    @property
    def train_metrics(self) -> dict[str, Metric]:
        """Those that grow from step to step of an epoch."""
        return {"loss": self.train_loss, "acc": self.train_acc}

    def phase_optimizer(self) -> Optimizer:
        """A new one, with a named group for each stage that learns; the head's is the last."""
        groups = [
            {"params": list(map(self.net.get_parameter, group.parameters)), "lr": group.lr, "name": group.stage}
            for group in self.phase.groups
        ]
        return (AtOptimum if self.phase.solver else self.phase.optimizer or self.optimizer)(groups)

    def configure_optimizers(self) -> dict:
        optimizer = self.phase_optimizer()
        if self.phase.solver:
            return {"optimizer": optimizer, "lr_scheduler": ConstantLR(optimizer, factor=1)}
        scheduler = self.phase.scheduler or self.scheduler
        if not isinstance(scheduler, PerStep):
            return {"optimizer": optimizer, "lr_scheduler": _by_epoch(scheduler(optimizer))}
        scheduled = {"scheduler": scheduler(optimizer, self._phase_steps()), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": scheduled}

    def _phase_steps(self) -> int:
        return self.trainer.estimated_stepping_batches * (self.phase.last - self.phase.first) // self.phase.last

    def on_train_start(self) -> None:
        if self.trainer.gradient_clip_val:  # else Lightning refuses to clip for fused optimizers, which unscale late
            for optimizer in self.trainer.optimizers:
                optimizer._step_supports_amp_scaling = False
        before, self._total_before = self._total_before, None
        if before and before != self.phase.total:
            self._change_schedule(before)

    def _change_schedule(self, before: int) -> None:
        """Put the rates where the longer or shorter schedule has them, and log what that changes."""
        (optimizer,), (scheduled,) = self.trainer.optimizers, self.trainer.lr_scheduler_configs
        rate, scheduler = optimizer.param_groups[-1]["lr"], self.phase.scheduler or self.scheduler
        told, length = "as if the run had been that long from the start", "longer"
        if before > self.phase.total:
            length = "shorter"
        if isinstance(scheduler, PerStep):
            advance(
                scheduled.scheduler, optimizer, scheduler(fresh := self.phase_optimizer(), self._phase_steps()), fresh
            )
            told = f"at {optimizer.param_groups[-1]['lr']:.3g}, where the {length} schedule has it"
        log.info(
            f"trained for {self.phase.total} epochs instead of {before}: the learning rate was {rate:.3g} at last, and "
            f"goes on {told}"
        )

    def forward(self, images: torch.Tensor, start: str | None = None) -> torch.Tensor:
        return self.net(images, start).float()  # losses and metrics are taken in float32 whatever the net computes in

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        images, labels = batch
        logits, loss = self.training_loss(images, labels)
        self.train_acc(logits, labels)  # where images are mixed, by the label of each one's own part
        self.log("train/acc", self.train_acc, on_step=False, on_epoch=True)
        self.train_loss.update(loss, len(labels))
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True)
        return loss * self._share(len(labels))

    def _share(self, images: int) -> float:
        """Of several devices, which average their gradients, the weight of one with so many images of the batch."""
        if self.trainer.world_size == 1:
            return 1.0
        count = torch.tensor(float(images), device=self.device)
        return images / self.trainer.strategy.reduce(count, reduce_op="mean")  # which is done in place

    def training_loss(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The logits of a batch, and what training minimises."""
        if self.mix and not (self.phase and self.phase.solver):
            images, labels = self.mix(images.float(), labels)
        logits = self(images, self.entries["train"])
        return logits, self.loss_of(logits, labels)

    def loss_of(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """What training minimises; labels are those that `mix` gives, if there is one."""
        weights = {} if self.class_weights is None else {"weight": self.class_weights}
        return self.loss(logits, labels, **weights)

    def on_validation_epoch_start(self) -> None:
        if self.trainer.world_size > 1:  # all validate what is saved, the first one's batch-norm statistics included
            for buffer in self.net.buffers():
                torch.distributed.broadcast(buffer, 0)

    def validation_step(self, batch: Batch, index: int) -> None:
        images, labels = batch
        if len(labels):  # a process that has no images adds nothing
            logits = self(images, self.entries["val"])
            self.val_loss.update(F.cross_entropy(logits, labels, reduction="none"))
            self.val_metrics.update(logits.softmax(1), labels)
        self.log("val/loss", self.val_loss)
        self.log_dict(self.val_metrics)

    def predict_step(self, batch: Batch, index: int) -> torch.Tensor:
        return self(batch[0], self.entries["val"])

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["thaw"] = {**self.description, "precision": str(self.trainer.precision)}
        checkpoint["phase"], checkpoint["total"] = self.phase.number, self.phase.total
        checkpoint["solution"] = self.solution
        if "optimizer_states" in checkpoint:  # what a run is continued from has the head as it learns, too
            checkpoint["head"] = {key: checkpoint["state_dict"][key] for key in standardized_keys(self.state_dict())}
        checkpoint["state_dict"] = fold_head(checkpoint["state_dict"])

    def restore(self, checkpoint: dict) -> int:
        """Take the weights and the head of a run that goes on, before Lightning loads; return its phase's number."""
        checkpoint["state_dict"].update(checkpoint.get("head", {}))
        self.solution = checkpoint.get("solution")
        self.load_state_dict(checkpoint["state_dict"])
        return checkpoint["phase"]

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        self._total_before = checkpoint.get("total") if checkpoint["phase"] == self.phase.number else None
        checkpoint["state_dict"].update(checkpoint.get("head", {}))
        if checkpoint["phase"] != self.phase.number:  # of the one before, whose optimizer ends with it
            checkpoint.update(optimizer_states=[], lr_schedulers=[])
            if "averaging_state" in checkpoint:  # averaged weights are handed on, and a new average begins
                counts = {name: torch.zeros_like(count) for name, count in checkpoint["averaging_state"].items()}
                checkpoint.update(current_model_state=checkpoint["state_dict"], averaging_state=counts)


def _by_epoch(scheduler: LRScheduler) -> LRScheduler | dict:
    """As Lightning takes it; one that waits for a metric to stop improving has to be told which."""
    if not isinstance(scheduler, ReduceLROnPlateau):
        return scheduler
    return {"scheduler": scheduler, "monitor": "val/loss" if scheduler.mode == "min" else "val/acc"}


class AtOptimum(Optimizer):
    """Takes no steps: the parameters are where they should be, and the epoch only measures them."""

    def __init__(self, parameters: Sequence[dict]):
        super().__init__(parameters, {"lr": 0.0})

    def step(self, closure: Callable | None = None) -> torch.Tensor | None:
        with torch.enable_grad():
            return closure() if closure else None


class MeanLoss(Metric):
    """The mean over images, of batches and devices that may hold different numbers of them.

    torchmetrics' own mean waits for the device at every step to look for NaN; Lightning's rounds the mean number of
    images that two devices hold.
    """

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
    """The mean over images, whose losses are added up in the images' order, however they came in batches or devices."""

    def __init__(self):
        super().__init__()
        self.add_state("losses", [], dist_reduce_fx="cat")

    def update(self, losses: torch.Tensor) -> None:
        self.losses.append(losses)

    def compute(self) -> torch.Tensor:
        return dim_zero_cat(self.losses).mean()
