"""Callbacks that stop a run between two steps, and that resume the run at the next step."""

from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from thaw.errors import UserError
from thaw.runs.stopping import stop_signals
from thaw.training.classifier import ImageClassifier


class StepStop(Callback):
    """Callback that stops training after a signal, such as SIGINT: after a step, or before or after validation.

    It raises Lightning's `SIGTERMException`, at which `thaw.training.checkpoint_io.LastCheckpoint` saves a checkpoint.
    A signal to any process stops all processes; Lightning's own handler reacts only to a signal to the first process.
    """

    def on_train_start(self, trainer, pl_module) -> None:
        stop_signals.renew()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if _received(trainer) and not _accumulates(trainer):
            stop_after_step(trainer)

    def on_validation_start(self, trainer, pl_module) -> None:
        if not trainer.received_sigterm:
            return
        # Mark the validation as begun in the checkpoint; otherwise a resumed run skips it.
        progress: Any = trainer.fit_loop.epoch_loop.val_loop.batch_progress.total
        progress.ready = progress.started = 1
        raise SIGTERMException

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        if _received(trainer):
            stop_after_step(trainer)


class RunTimer(Timer):
    """Callback that stops training after `duration`, counted over all phases.

    Training stops after a step. If no best checkpoint exists yet, the network is first validated, as after an epoch.
    """

    def __init__(self, duration: str | dict):
        try:
            super().__init__(duration)
            left = self.time_remaining()
        except (ValueError, TypeError, AttributeError, MisconfigurationException) as error:
            raise UserError(
                f"trainer.max_time={duration!r} must be days:hours:minutes:seconds, as in 00:01:30:00."
            ) from error
        if not left:
            raise UserError(f"trainer.max_time={duration!r} leaves no time.")

    def on_fit_start(self, trainer, *rest: Any) -> None:
        pass

    def on_train_start(self, trainer, pl_module) -> None:
        if self.start_time() is None:
            super().on_train_start(trainer, pl_module)

    def on_train_batch_end(self, trainer: Any, *rest: Any) -> None:
        if _accumulates(trainer) or not self._is_over(trainer):
            return
        if any(checkpoint.monitor and checkpoint.best_model_path for checkpoint in trainer.checkpoint_callbacks):
            stop_after_step(trainer)
        else:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: Any, *rest: Any) -> None:
        if self._is_over(trainer):
            trainer.should_stop = True

    def on_train_end(self, trainer, pl_module) -> None:
        pass

    def _is_over(self, trainer: Trainer) -> bool:
        left = self.time_remaining()
        return trainer.strategy.broadcast(left is not None and left <= 0)


class MidEpochResume(Callback):
    """Callback that resumes a run inside an epoch: it skips the batches already used and restores training metrics.

    It also saves the fingerprint of the data in checkpoints, so that a run cannot resume on other data.
    """

    def __init__(self):
        self._metrics: dict[str, dict] = {}

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict) -> None:
        if trainer.is_global_zero:
            checkpoint["data"] = trainer.datamodule.fingerprint
        progress = trainer.fit_loop.epoch_progress.current
        if progress.processed < progress.started:
            checkpoint["train_metrics"] = _metric_states(trainer, pl_module)

    def on_load_checkpoint(self, trainer, pl_module, checkpoint: dict) -> None:
        self._metrics = checkpoint.get("train_metrics", {})

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        loop = trainer.fit_loop
        if not loop.is_resuming:
            return
        order, epoch = trainer.train_dataloader.sampler, loop.epoch_progress.current.processed
        if loop.restarting:
            order.skip(epoch, loop.epoch_loop.batch_progress.current.completed)
            _restore_metrics(trainer, pl_module, self._metrics)
        order.set_epoch(epoch)
        iter(loop._data_fetcher)  # restart the iterator, which may have the wrong epoch's order


def stop_after_step(trainer: Trainer) -> None:
    """Make Lightning raise its `SIGTERMException` at the end of the present step."""
    trainer._signal_connector.received_sigterm = True


def _accumulates(trainer: Trainer) -> bool:
    """Return whether gradients still accumulate over batches; stopping would lose them, since checkpoints lack them."""
    return trainer.fit_loop.epoch_loop._should_accumulate()


def _received(trainer: Trainer) -> int | None:
    """Return the signal that this or another process of the run has received, or None."""
    if trainer.world_size > 1:
        number = torch.tensor(stop_signals.received or 0, device=trainer.strategy.root_device)
        stop_signals.received = int(trainer.strategy.reduce(number, reduce_op="max")) or None
    return stop_signals.received


def _metric_states(trainer: Trainer, classifier: ImageClassifier) -> dict[str, dict[str, torch.Tensor]]:
    def total(state: Any) -> Any:
        return trainer.strategy.reduce(state.clone(), reduce_op="sum")

    return {
        name: {key: total(state) for key, state in metric.metric_state.items()}
        for name, metric in classifier.train_metrics.items()
    }


def _restore_metrics(trainer: Trainer, classifier: ImageClassifier, states: dict[str, dict[str, torch.Tensor]]) -> None:
    for name, metric in classifier.train_metrics.items():
        for key, value in states[name].items():
            setattr(metric, key, value.to(metric.device) * trainer.is_global_zero)
        metric._update_count = 1  # with 0, torchmetrics warns that there is nothing to compute
    classifier.log_train_metrics()  # training_step logs the metrics only in an epoch's first step
