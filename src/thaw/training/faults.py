"""Callbacks that stop a run with NaN or infinite numbers before it saves them."""

from typing import Any

import torch
from lightning import Callback, Trainer

from thaw.errors import RunError
from thaw.pages.text import listed
from thaw.runs.stopping import worker_deaths
from thaw.training.classifier import ImageClassifier

_EVERY = 50  # steps between two checks on a GPU or on several devices; each check waits for all devices
_NEVER = 2**62


class FiniteNumbers(Callback):
    """Callback that stops training if the loss or a weight is NaN or infinite.

    On a single CPU, training stops before the optimizer uses this loss. On a GPU or several devices, training stops at
    most 50 steps later, but before a checkpoint is saved.

    Raises:
        RunError: if a loss or weight is not finite; the message names the step, the learning rate and the images.

    """

    def on_train_start(self, trainer, pl_module) -> None:
        self._first = torch.tensor(_NEVER, device=pl_module.device)  # first batch whose loss is NaN or infinite

    def on_before_backward(self, trainer, pl_module, loss: torch.Tensor) -> None:
        self.note(trainer, loss, trainer.fit_loop.epoch_loop.batch_idx)

    def note(self, trainer: Any, losses: torch.Tensor, first: int) -> None:
        """Note the losses of one or several batches, of which the first has the number `first` in its epoch."""
        end = first + losses.numel()
        numbers = torch.arange(first, end, device=losses.device).view_as(losses)
        self._first = torch.minimum(self._first, numbers.where(~losses.isfinite(), _NEVER).min())
        if is_single_cpu(trainer) or end // _EVERY > first // _EVERY:
            self._check_losses(trainer)

    def on_validation_start(self, trainer, pl_module: Any) -> None:
        if trainer.state.fn == "fit":  # the best weights are saved without a call of on_save_checkpoint
            self._check(trainer, pl_module)

    def on_save_checkpoint(self, trainer, pl_module: Any, checkpoint: dict) -> None:
        self._check(trainer, pl_module)

    def _check(self, trainer: Trainer, classifier: ImageClassifier) -> None:
        self._check_losses(trainer)
        trainable = [p for p in classifier.net.parameters() if p.requires_grad]
        if not torch.stack([tensor.isfinite().all() for tensor in (*trainable, *classifier.net.buffers())]).all():
            raise RunError(f"the weights are no longer finite {_when(trainer)}: lower strategy.lr; {_KEPT}.")

    def _check_losses(self, trainer: Any) -> None:
        # All processes must stop if one process has a NaN or infinite loss: the others would wait for that process.
        first = int(trainer.strategy.reduce(self._first.clone(), reduce_op="min"))
        if first < _NEVER:
            images = listed(trainer.datamodule.batch_files(trainer.current_epoch, first), most=32)
            raise RunError(
                f"the training loss is NaN or infinite {_when(trainer, first)}: lower strategy.lr, or check the "
                f"images of that batch ({images}); {_KEPT}."
            )


class MuteWorkerDeaths(Callback):
    """Callback that, after an exception, mutes errors of loader workers that die while Lightning shuts down."""

    def on_exception(self, trainer, pl_module, exception: BaseException) -> None:
        worker_deaths.mute()


_KEPT = "earlier checkpoints are kept"


def is_single_cpu(trainer: Trainer) -> bool:
    return trainer.strategy.root_device.type == "cpu" and trainer.world_size == 1


def _when(trainer: Trainer, number: int | None = None) -> str:
    step = "" if number is None else f"step {number + 1} of "
    rate = trainer.optimizers[0].param_groups[-1]["lr"]  # the head's rate
    return f"at {step}epoch {trainer.current_epoch + 1} with a learning rate of {rate:.3g}"
