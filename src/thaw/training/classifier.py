"""`ImageClassifier`, the LightningModule that trains a network phase by phase."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from lightning import LightningModule
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler
from torchmetrics import Metric

from thaw.data.label_sets import ONE_CLASS, LabelSets
from thaw.models.head import fold_head, standardized_keys
from thaw.models.staged import StagedNet
from thaw.strategy.freezing import set_trainable, set_training_modes
from thaw.strategy.phases import Phase
from thaw.training.epoch_metrics import ImageLosses, MeanLoss
from thaw.training.objectives import Objective, objective
from thaw.training.schedules import NoStepOptimizer, PerStep, advance, by_epoch
from thaw.training.step_graph import StepGraph

log = logging.getLogger(__name__)

Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Recipe:
    """How a classifier learns: optimizer, scheduler, loss and other settings.

    Every phase calls `optimizer(parameter_groups)` and `scheduler(optimizer)`. A scheduler that steps after every batch
    is a `PerStep`. Training minimises `loss(logits, labels)` or, with `class_weights`,
    `loss(logits, labels, weight=class_weights)`. `mix` blends images within a batch and turns labels (N,) into
    probabilities (N, classes). If images can have several classes, labels are 0 or 1, float (N, classes), and binary
    cross-entropy replaces cross-entropy. With `keep_statistics`, batch norms apply their stored statistics, even if
    their weights are trainable. `graph` is the mode of `thaw.training.step_graph.StepGraph`.
    """

    optimizer: Callable[..., Optimizer]
    scheduler: Callable[[Optimizer], LRScheduler] | PerStep
    loss: Callable[..., torch.Tensor] = F.cross_entropy
    class_weights: torch.Tensor | None = None
    mix: Callable | None = None
    keep_statistics: bool = False
    graph: bool | str = "auto"


class ImageClassifier(LightningModule):
    """Classifier that trains the parameters of one phase at a time. All other parameters are frozen.

    Checkpoints hold the classes and `preprocessing`, which inference needs. `solution` describes the last head that a
    phase's solver computed, in plain Python values. `label_sets` says which classes the labels in batches stand for.

    If training or validation batches hold features, `train_input_stage` or `val_input_stage` is the stage that the
    features enter. None means that batches hold images.
    """

    class_weights: torch.Tensor | None
    objective: Objective

    def __init__(
        self,
        net: StagedNet,
        classes: Sequence[str],
        recipe: Recipe,
        preprocessing: dict | None = None,
        label_sets: LabelSets = ONE_CLASS,
    ):
        super().__init__()
        self._phase: Phase | None = None
        self.net = net
        self.recipe = recipe
        self.register_buffer("class_weights", recipe.class_weights, persistent=False)
        self.description = {"model": net.config, "classes": list(classes), "preprocessing": preprocessing or {}}
        if label_sets.several:
            self.description["several"] = True
        self.train_input_stage: str | None = None
        self.val_input_stage: str | None = None
        self.solution: dict | None = None
        self.step_graph = StepGraph(recipe.graph)
        self._total_before: int | None = None  # the number of epochs for which the checkpoint's run was planned
        self.train_loss, self.val_loss = MeanLoss(), ImageLosses()
        self.objective = objective(len(classes), label_sets)
        self.train_acc, self.val_metrics = self.objective.train_accuracy(), self.objective.validation_metrics()

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_current_fx_name":  # Lightning sets this 40 times a step; nn.Module's __setattr__ is slow
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    @property
    def phase(self) -> Phase:
        assert self._phase is not None, "start() sets the phase"
        return self._phase

    @property
    def solved(self) -> bool:
        """Return whether a solver computes the head in the present phase, without training."""
        return bool(self._phase and self._phase.solver)

    def start(self, phase: Phase) -> None:
        """Begin `phase`: make only its parameters trainable."""
        self._phase = phase
        self.step_graph.reset()
        self.set_input_stages()
        set_trainable(self.net, phase.parameters)
        self.train()

    def set_input_stages(self, train: str | None = None, val: str | None = None) -> None:
        """Set the stages that training and validation batches enter; None means that batches hold images."""
        self.train_input_stage, self.val_input_stage = train, val

    def train(self, mode: bool = True) -> "ImageClassifier":
        super().train(mode)
        if mode:
            set_training_modes(self.net, self.recipe.keep_statistics)
        if self.solved:
            self.net.eval()
        return self

    @property
    def train_metrics(self) -> dict[str, Metric]:
        """Return the metrics that accumulate over the steps of an epoch."""
        return {"loss": self.train_loss, "acc": self.train_acc}

    def log_train_metrics(self) -> None:
        """Log the training metrics once per epoch; Lightning keeps references and reads them when the epoch ends."""
        for name, metric in self.train_metrics.items():
            self.log(f"train/{name}", metric, on_step=False, on_epoch=True)

    def phase_optimizer(self) -> Optimizer:
        """Return a new optimizer with one named parameter group per trainable stage; the head's group is the last."""
        groups = [
            {"params": list(map(self.net.get_parameter, group.parameters)), "lr": group.lr, "name": group.stage}
            for group in self.phase.groups
        ]
        return (NoStepOptimizer if self.solved else self.phase.optimizer or self.recipe.optimizer)(groups)

    def configure_optimizers(self) -> Any:
        optimizer = self.phase_optimizer()
        if self.solved:
            return {"optimizer": optimizer, "lr_scheduler": ConstantLR(optimizer, factor=1)}
        scheduler = self.phase.scheduler or self.recipe.scheduler
        if not isinstance(scheduler, PerStep):
            return {"optimizer": optimizer, "lr_scheduler": by_epoch(scheduler(optimizer))}
        scheduled = {"scheduler": scheduler(optimizer, self._phase_steps()), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": scheduled}

    def _phase_steps(self) -> int:
        return int(self.trainer.estimated_stepping_batches) * (self.phase.last - self.phase.first) // self.phase.last

    def on_train_start(self) -> None:
        if self.trainer.gradient_clip_val:  # otherwise Lightning refuses to clip gradients with fused optimizers
            for optimizer in self.trainer.optimizers:
                optimizer._step_supports_amp_scaling = False  # pyright: ignore[reportAttributeAccessIssue]  # private
        before, self._total_before = self._total_before, None
        if before and before != self.phase.total:
            self._change_schedule(before)

    def _change_schedule(self, before: int) -> None:
        (optimizer,), (scheduled,) = self.trainer.optimizers, self.trainer.lr_scheduler_configs
        rate, scheduler = optimizer.param_groups[-1]["lr"], self.phase.scheduler or self.recipe.scheduler
        change = "its schedule now has the new length"
        if isinstance(scheduler, PerStep):
            fresh = self.phase_optimizer()
            advance(scheduled.scheduler, optimizer, scheduler(fresh, self._phase_steps()), fresh)
            length = "shorter" if before > self.phase.total else "longer"
            change = f"the {length} schedule continues at {optimizer.param_groups[-1]['lr']:.3g}"
        log.info(
            f"training for {self.phase.total} epochs instead of {before}: the learning rate was {rate:.3g}; {change}"
        )

    def forward(self, images: torch.Tensor, start: str | None = None) -> torch.Tensor:
        return self.net(images, start).float()  # losses and metrics need float32, also with mixed precision

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        images, labels = batch
        logits, loss = self.forward_and_loss(images, labels)
        targets = self.objective.targets(labels)  # with `mix`, accuracy uses the labels before blending
        self.train_acc.update(self.objective.predicted(logits.detach()), targets)
        self.train_loss.update(loss, len(labels))
        if batch_idx == 0:
            self.log_train_metrics()
        return self._weighted(loss, len(labels))

    def _weighted(self, loss: torch.Tensor, images: int) -> torch.Tensor:
        """Weight the loss by this device's number of images, because devices average their gradients equally."""
        if self.trainer.world_size == 1:
            return loss
        count = torch.tensor(float(images), device=self.device)  # reduce() overwrites its argument
        return loss * (images / self.trainer.strategy.reduce(count, reduce_op="mean"))

    def forward_and_loss(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits and loss of a training batch. A replayed CUDA graph also computes the gradients."""
        if self.solved or self.recipe.mix:
            self.step_graph.replayed = False
            return self.training_loss(images, labels)
        return self.step_graph.step(images, labels, self.training_loss, self)

    def training_loss(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits and loss of a training batch, whose images are first blended if the recipe has `mix`."""
        targets = self.objective.targets(labels)
        if self.recipe.mix and not self.solved:
            images, targets = self.recipe.mix(images.float(), targets)
        logits = self(images, self.train_input_stage)
        return logits, self.loss_of(logits, targets)

    def backward(self, loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        if not self.step_graph.replayed:
            super().backward(loss, *args, **kwargs)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        if not self.step_graph.replayed:  # a replay has filled the gradients before this call
            optimizer.zero_grad()

    def loss_of(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss that training minimises. `targets` are those of the objective, or come from `mix`."""
        weights = {} if self.class_weights is None else {"weight": self.class_weights}
        return self.objective.training_loss(self.recipe.loss)(logits, targets, **weights)

    def on_validation_epoch_start(self) -> None:
        if self.trainer.world_size > 1:  # validate with the first process's batch-norm statistics, which are saved
            for buffer in self.net.buffers():
                torch.distributed.broadcast(buffer, 0)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, labels = batch
        if len(labels):  # with several processes, one can have no images
            logits = self(images, self.val_input_stage)
            self.val_loss.update(self.objective.losses(logits, labels))
            self.val_metrics.update(self.objective.probabilities(logits), self.objective.targets(labels).long())
        if batch_idx == 0:  # once per epoch is enough: Lightning keeps references
            self.log("val/loss", self.val_loss)
            self.log_dict(self.val_metrics)

    def predict_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        return self(batch[0], self.val_input_stage)

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["thaw"] = {**self.description, "precision": str(self.trainer.precision)}
        checkpoint["phase"], checkpoint["total"] = self.phase.number, self.phase.total
        checkpoint["solution"] = self.solution
        if "optimizer_states" in checkpoint:  # a resumed run needs the StandardizedLinear head, too
            checkpoint["head"] = {key: checkpoint["state_dict"][key] for key in standardized_keys(self.state_dict())}
        checkpoint["state_dict"] = fold_head(checkpoint["state_dict"])

    def restore(self, checkpoint: dict) -> int:
        """Load the weights of a resumed run before Lightning does; return the number of the checkpoint's phase."""
        checkpoint["state_dict"].update(checkpoint.get("head", {}))
        self.solution = checkpoint.get("solution")
        self.load_state_dict(checkpoint["state_dict"])
        return checkpoint["phase"]

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        self._total_before = checkpoint.get("total") if checkpoint["phase"] == self.phase.number else None
        checkpoint["state_dict"].update(checkpoint.get("head", {}))
        if checkpoint["phase"] != self.phase.number:  # each phase has its own optimizer and scheduler
            checkpoint.update(optimizer_states=[], lr_schedulers=[])
