"""Train on features with few visits to Lightning's hooks, which take longer than the step of a small head."""

import math
import time
from collections.abc import Iterator
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

from thaw.runs.stopping import stop_signals
from thaw.training import faults
from thaw.training.best import BestCheckpoint
from thaw.training.callbacks import EpochBar, EpochTable
from thaw.training.checkpoint_io import LastCheckpoint
from thaw.training.classifier import Batch, ImageClassifier
from thaw.training.faults import FiniteNumbers
from thaw.training.interruption import RunTimer, StepStop
from thaw.training.invariants import SeededSteps, seed_step

_MOST = 49  # quick steps between two of Lightning's steps
_SECONDS = 0.2  # time limit for these quick steps, so that a signal stops training soon

_STEP_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)
# Callbacks whose hooks may miss steps: they do the same later, or `_QuickSteps` does it for them.
_MAY_MISS_STEPS = (
    BestCheckpoint,
    EpochBar,
    EpochTable,
    FiniteNumbers,
    LastCheckpoint,
    LearningRateMonitor,
    RunTimer,
    SeededSteps,
    StepStop,
)


class QuickEpochLoop(_TrainingEpochLoop):
    """Lightning's loop over the batches of an epoch, with quick steps in between if batches hold features.

    A quick step computes exactly what Lightning's step computes, and calls no hooks. So the number of quick steps,
    which depends on time, changes no result. The first and last step of every epoch are Lightning's.
    """

    def advance(self, data_fetcher: Any) -> None:
        left = self.trainer.num_training_batches - self.batch_progress.current.ready - 1
        if not self.restarting and self.batch_progress.current.ready and left > 0 and _suits(self.trainer):
            self._hurry(data_fetcher, int(min(left, _MOST)))
        super().advance(data_fetcher)

    def _hurry(self, batches: Iterator, most: int) -> None:
        steps, end = _QuickSteps(self.trainer, self.batch_progress.current.ready), time.perf_counter() + _SECONDS
        self.batch_progress.is_last_batch = False
        while steps.done < most and time.perf_counter() < end and not stop_signals.received:
            batch, _, _ = next(batches)
            steps.take(batch)
            self._count_step()
            self.update_lr_schedulers("step", update_plateau_schedulers=False)
        steps.finish()

    def _count_step(self) -> None:
        optimizer = self.automatic_optimization.optim_progress.optimizer
        for progress in (self.batch_progress, optimizer.zero_grad):
            progress.increment_ready()
            progress.increment_started()
            progress.increment_completed()
        self.batch_progress.increment_processed()
        optimizer.step.increment_ready()
        optimizer.step.increment_completed()
        self._batches_that_stepped += 1


class _QuickSteps:
    """Steps from batch number `first` of the epoch on. `done` is the number of steps taken."""

    def __init__(self, trainer: Any, first: int):
        self._trainer, self._first, self.done = trainer, first, 0
        self._classifier: ImageClassifier = trainer.lightning_module
        (self._optimizer,) = trainer.optimizers
        self._finite = next(one for one in trainer.callbacks if isinstance(one, FiniteNumbers))
        self._looks_at_once = faults.is_single_cpu(trainer)
        self._losses: list[torch.Tensor] = []
        self._predicted: list[torch.Tensor] = []
        self._labels: list[torch.Tensor] = []

    def take(self, batch: Batch) -> None:
        features, labels = batch
        classifier, number = self._classifier, self._first + self.done
        seed_step(self._trainer, number)
        with self._trainer.precision_plugin.train_step_context():
            logits, loss = classifier.forward_and_loss(features, labels)
        if self._looks_at_once and not math.isfinite(loss.item()):
            self._finite.note(self._trainer, loss, number)
        if not classifier.step_graph.replayed:
            self._optimizer.zero_grad()
            loss.backward()
        self._optimizer.step()
        self._losses.append(loss.detach())
        self._predicted.append(classifier.objective.predicted(logits.detach()))
        self._labels.append(labels)
        self.done += 1

    def finish(self) -> None:
        """Update the epoch's metrics, and look for NaN."""
        if not self.done:
            return
        for loss, labels in zip(self._losses, self._labels, strict=True):
            self._classifier.train_loss.update(loss, len(labels))
        targets = self._classifier.objective.targets(torch.cat(self._labels))
        self._classifier.train_acc.update(torch.cat(self._predicted), targets)
        if not self._looks_at_once:
            self._finite.note(self._trainer, torch.stack(self._losses), self._first)


def _suits(trainer: Any) -> bool:
    """Return whether quick steps do all that this phase needs in a step."""
    classifier = trainer.lightning_module
    return (
        classifier.train_input_stage is not None
        and not classifier.solved
        and classifier.recipe.mix is None
        and trainer.world_size == 1
        and trainer.accumulate_grad_batches == 1
        and not trainer.gradient_clip_val
        and not getattr(trainer.precision_plugin, "scaler", None)
        and all(map(_may_miss_steps, trainer.callbacks))
    )


def _may_miss_steps(callback: Callback) -> bool:
    kind = type(callback)
    if not any(getattr(kind, hook) is not getattr(Callback, hook) for hook in _STEP_HOOKS):
        return True
    if isinstance(callback, LearningRateMonitor) and callback.logging_interval != "epoch":
        return False
    return kind in _MAY_MISS_STEPS


def with_quick_steps(trainer: Trainer) -> Trainer:
    """Replace the Trainer's loop over batches by `QuickEpochLoop`; return the Trainer."""
    loop = trainer.fit_loop.epoch_loop
    trainer.fit_loop.epoch_loop = QuickEpochLoop(trainer, loop.min_steps, loop.max_steps)
    return trainer
