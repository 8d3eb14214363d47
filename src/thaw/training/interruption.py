"""A run that is stopped between two steps, and goes on from there as if it had not been."""

import torch
from lightning import Callback, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from thaw.errors import UserError
from thaw.runs.stopping import stop_signals
from thaw.training.classifier import ImageClassifier


class StepStop(Callback):
    """Ends training after the step, or before or after the validation, in which a signal came.

    It raises Lightning's `SIGTERMException`; `thaw.training.checkpoint_io.LastCheckpoint` then saves. Of several
    processes all stop where one is told to: Lightning's own handler tells those of the first process alone.
    """

    def on_train_start(self, trainer, classifier) -> None:
        stop_signals.renew()

    def on_train_batch_end(self, trainer, classifier, outputs, batch, index) -> None:
        if _received(trainer) and not _accumulates(trainer):
            stop_after_step(trainer)

    def on_validation_start(self, trainer, classifier) -> None:
        if not trainer.received_sigterm:
            return
        # Lightning runs again a validation that had begun when it saved, and skips one that had not.
        progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress.total
        progress.ready = progress.started = 1
        raise SIGTERMException

    def on_train_epoch_end(self, trainer, classifier) -> None:
        if _received(trainer):
            stop_after_step(trainer)


class RunTimer(Timer):
    """Ends training with the step in which `duration` is over; its clock does not stop between phases.

    Where no epoch has been validated, what has been learned until then counts as one.
    """

    def __init__(self, duration: str | dict):
        try:
            super().__init__(duration)
            left = self.time_remaining()
        except (ValueError, TypeError, AttributeError, MisconfigurationException) as error:
            raise UserError(
                f"trainer.max_time={duration!r} must be days:hours:minutes:seconds as in 00:01:30:00."
            ) from error
        if not left:
            raise UserError(f"trainer.max_time={duration!r} leaves no time.")

    def on_fit_start(self, trainer, *rest) -> None:
        pass

    def on_train_start(self, trainer, classifier) -> None:
        if self.start_time() is None:
            super().on_train_start(trainer, classifier)

    def on_train_batch_end(self, trainer, *rest) -> None:
        if _accumulates(trainer) or not self._is_over(trainer):
            return
        if any(checkpoint.monitor and checkpoint.best_model_path for checkpoint in trainer.checkpoint_callbacks):
            stop_after_step(trainer)
        else:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer, *rest) -> None:
        if self._is_over(trainer):
            trainer.should_stop = True

    def on_train_end(self, trainer, classifier) -> None:
        pass

    def _is_over(self, trainer: Trainer) -> bool:
        return trainer.strategy.broadcast(self.time_remaining() <= 0)


class Continuation(Callback):
    """Goes on inside an epoch with the batches that are left of it, and with the metrics of those before.

    Checkpoints say what the run was trained on, so that it goes on with nothing else.
    """

    def __init__(self):
        self._metrics: dict[str, dict] = {}

    def on_save_checkpoint(self, trainer, classifier, checkpoint: dict) -> None:
        if trainer.is_global_zero:
            checkpoint["data"] = trainer.datamodule.fingerprint
        progress = trainer.fit_loop.epoch_progress.current
        if progress.processed < progress.started:
            checkpoint["train_metrics"] = _states(trainer, classifier)

    def on_load_checkpoint(self, trainer, classifier, checkpoint: dict) -> None:
        self._metrics = checkpoint.get("train_metrics", {})

    def on_train_start(self, trainer, classifier) -> None:
        loop = trainer.fit_loop
        if not loop.is_resuming:
            return
        order, epoch = trainer.train_dataloader.sampler, loop.epoch_progress.current.processed
        if loop.restarting:
            order.skip(epoch, loop.epoch_loop.batch_progress.current.completed)
            _restore(trainer, classifier, self._metrics)
        order.set_epoch(epoch)
        iter(loop._data_fetcher)  # the one that is there may have been begun before Lightning knew the epoch


def stop_after_step(trainer: Trainer) -> None:
    """Have Lightning raise its `SIGTERMException` as soon as all that belongs to the step is done."""
    trainer._signal_connector.received_sigterm = True


def _accumulates(trainer: Trainer) -> bool:
    """Whether gradients of this batch wait for those of further ones, which no checkpoint holds."""
    return trainer.fit_loop.epoch_loop._should_accumulate()


def _received(trainer: Trainer) -> int | None:
    """The signal that came to this process, or else to one that it trains with."""
    if trainer.world_size > 1:
        told = torch.tensor(stop_signals.received or 0, device=trainer.strategy.root_device)
        stop_signals.received = int(trainer.strategy.reduce(told, reduce_op="max")) or None
    return stop_signals.received


def _states(trainer: Trainer, classifier: ImageClassifier) -> dict[str, dict[str, torch.Tensor]]:
    """Of the running metrics of training, added up over all processes."""
    return {
        name: {
            key: trainer.strategy.reduce(value.clone(), reduce_op="sum") for key, value in metric.metric_state.items()
        }
        for name, metric in classifier.train_metrics.items()
    }


def _restore(trainer: Trainer, classifier: ImageClassifier, states: dict[str, dict[str, torch.Tensor]]) -> None:
    for name, metric in classifier.train_metrics.items():
        for key, value in states[name].items():
            setattr(metric, key, value.to(metric.device) * trainer.is_global_zero)
        metric._update_count = 1  # else it warns that there is nothing to compute
        classifier.log(f"train/{name}", metric, on_step=False, on_epoch=True)  # there may be no step left that does
