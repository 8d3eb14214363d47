"""What TensorBoard shows beside the curves: pictures, values of the runs side by side, and how the net sees images."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from lightning import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.tensorboard.summary import hparams

from thaw.evaluation.evaluation import Evaluation
from thaw.models.staged import StagedNet
from thaw.pages.text import printable
from thaw.training.loggers import attempt

_LAYOUT = {
    "training against validation": {
        "loss": ["Multiline", ["train/loss", "val/loss"]],
        "accuracy": ["Multiline", ["train/acc", "val/acc"]],
    }
}
_PROJECTED_IMAGES, _PROJECTED_NUMBERS = 1000, 1_000_000  # the projector reads them as text


def lay_out(trainer: Trainer) -> None:
    """Training and validation in one chart each, under Custom Scalars."""
    _on_each(trainer, lambda board: board.experiment.add_custom_scalars(_LAYOUT))


def show(trainer: Trainer, name: str, pixels: np.ndarray) -> None:
    """A picture, uint8 (height, width, 3)."""

    def add(board: TensorBoardLogger) -> None:
        board.experiment.add_image(name, pixels, trainer.global_step, dataformats="HWC")
        board.experiment.flush()

    _on_each(trainer, add)


@rank_zero_only
def record_values(trainer: Trainer, values: Mapping[str, object], summary: dict) -> None:
    """What a finished run was told, and what came of it, for the tab HParams.

    Which values differ between runs, and come first, TensorBoard finds out by itself unless a run describes them all.
    """
    reached = {"best/val/acc": summary["val"]["acc"], "cost/seconds": summary["seconds"]["total"]}
    told = {name: printable(value) if isinstance(value, str) else value for name, value in values.items()}

    def add(board: TensorBoardLogger) -> None:
        _description, start, end = hparams(told, reached)
        board.log_metrics(reached, trainer.global_step)
        board.experiment.file_writer.add_summary(start)
        board.experiment.file_writer.add_summary(end)
        board.finalize("success")

    _on_each(trainer, add)


class HeadInputs:
    """Vectors that go into a net's head, of some of the next `images`, which are evenly spread over them.

    `shown` has the numbers of those images; `vectors` is float32 (shown, D).
    """

    def __init__(self, images: int):
        self._images = images
        self._seen = 0
        self._kept: list[torch.Tensor] = []
        self.shown = torch.empty(0, dtype=torch.long)

    def see(self, batch: torch.Tensor) -> None:
        """Images' maps (N, C, H, W), tokens (N, T, D) or vectors (N, D), one batch after the other."""
        pooled = batch.mean([2, 3]) if batch.ndim == 4 else batch.mean(1) if batch.ndim == 3 else batch
        if not self._seen:
            most = min(self._images, _PROJECTED_IMAGES, max(_PROJECTED_NUMBERS // pooled.shape[1], 1))
            self.shown = torch.linspace(0, self._images - 1, most, dtype=torch.float64).round().long()
        here = self.shown - self._seen
        self._kept.append(pooled[here[(here >= 0) & (here < len(batch))]].float().cpu())
        self._seen += len(batch)

    @property
    def vectors(self) -> torch.Tensor | None:
        """None unless each image was seen once: a compiled net may not tell what goes on inside."""
        return torch.cat(self._kept) if self._seen == self._images else None


@contextmanager
def head_inputs(net: StagedNet, images: int) -> Iterator[HeadInputs]:
    """What goes into the net's head while this lasts, in which it sees so many images."""
    inputs = HeadInputs(images)
    # Dropout may come before the head's first weights; it does nothing here, and not every net applies it to features.
    first = next(part for part in net.stage_modules(net.head_name) if next(part.parameters(), None) is not None)
    with first.register_forward_pre_hook(lambda head, given: inputs.see(given[0].detach())):
        yield inputs


def project(trainer: Trainer, inputs: HeadInputs, evaluation: Evaluation, root: Path) -> None:
    """Images as points, near each other where the net's head can hardly tell them apart, for the tab Projector."""
    _on_each(trainer, lambda board: _project(board, trainer.global_step, inputs, evaluation, root))


def _project(board: TensorBoardLogger, step: int, inputs: HeadInputs, evaluation: Evaluation, root: Path) -> None:
    points = inputs.vectors
    if points is None or not points.isfinite().all():  # a net that has diverged has no places for them
        return
    names = [*map(printable, evaluation.classes)]
    rows = [
        [
            names[evaluation.labels[i]],
            names[evaluation.predicted[i]],
            printable(Path(evaluation.paths[i]).relative_to(root).as_posix()),
        ]
        for i in inputs.shown.tolist()
    ]
    board.experiment.add_embedding(
        _short(points),
        metadata=rows,
        metadata_header=["class", "predicted", "path"],
        tag="validation_images",
        global_step=step,
    )
    board.experiment.flush()


def _short(numbers: torch.Tensor) -> torch.Tensor:
    """To a ten-thousandth of the largest, or less: as text they take a third of the room."""
    largest = numbers.abs().max().item() or 1.0
    return numbers.double().round(decimals=4 - math.floor(math.log10(largest)))


def _on_each(trainer: Trainer, act: Callable[[TensorBoardLogger], None]) -> None:
    """What TensorBoard shows beside the curves fails no run, as they do not."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            attempt(logger, lambda board=logger: act(board))
