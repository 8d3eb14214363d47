"""Numbers that have gone astray end a run before they are saved."""

import torch
from lightning import Callback, Trainer

from thaw.errors import RunError
from thaw.pages.text import listed
from thaw.runs.stopping import worker_deaths
from thaw.training.classifier import ImageClassifier

_EVERY = 50  # steps; to ask a GPU or other processes at each of them would have all wait
_NEVER = 2**62


class FiniteNumbers(Callback):
    """Stops at a training loss or at weights that are NaN or infinite.

    A CPU that trains alone stops before the optimizer uses such a loss, others some steps later; all do before
    anything is saved.

    Raises:
        RunError: with the step, the rate and the images of the batch.

    """

    def on_train_start(self, trainer, classifier) -> None:
        self._first = torch.tensor(_NEVER, device=classifier.device)  # the batch of the epoch that went astray

    def on_before_backward(self, trainer, classifier, loss: torch.Tensor) -> None:
        number = trainer.fit_loop.epoch_loop.batch_idx
        self._first = torch.where(loss.isfinite(), self._first, self._first.clamp(max=number))
        if _answers_at_once(trainer) or (number + 1) % _EVERY == 0:
            self._check_losses(trainer)

    def on_validation_start(self, trainer, classifier) -> None:
        if trainer.state.fn == "fit":
            self._check(trainer, classifier)  # the best weights are saved after it, without asking callbacks

    def on_save_checkpoint(self, trainer, classifier, checkpoint: dict) -> None:
        self._check(trainer, classifier)

    def _check(self, trainer: Trainer, classifier: ImageClassifier) -> None:
        self._check_losses(trainer)
        learned = [p for p in classifier.net.parameters() if p.requires_grad]
        if not torch.stack([tensor.isfinite().all() for tensor in (*learned, *classifier.net.buffers())]).all():
            raise RunError(f"the weights are no longer finite {_when(trainer)}: lower strategy.lr; {_KEPT}.")

    def _check_losses(self, trainer: Trainer) -> None:
        # All processes stop, even where the loss of one alone is bad: else the others would wait for it.
        first = int(trainer.strategy.reduce(self._first.clone(), reduce_op="min"))
        if first < _NEVER:
            images = listed(trainer.datamodule.batch_files(trainer.current_epoch, first), most=32)
            raise RunError(
                f"the training loss is NaN or infinite {_when(trainer, first)}: lower strategy.lr, or look at the "
                f"images of that batch, {images}; {_KEPT}."
            )


class OneFault(Callback):
    """Lets Lightning end what it had begun undisturbed by further loader processes that die."""

    def on_exception(self, trainer, classifier, exception: BaseException) -> None:
        worker_deaths.hush()


_KEPT = "the checkpoints of before are kept"


def _answers_at_once(trainer: Trainer) -> bool:
    return trainer.strategy.root_device.type == "cpu" and trainer.world_size == 1


def _when(trainer: Trainer, number: int | None = None) -> str:
    step = "" if number is None else f"step {number + 1} of "
    rate = trainer.optimizers[0].param_groups[-1]["lr"]  # the head's
    return f"at {step}epoch {trainer.current_epoch + 1} with a learning rate of {rate:.3g}"
