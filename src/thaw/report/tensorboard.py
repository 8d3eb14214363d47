"""Write figures, hyperparameters and an embedding of images to TensorBoard; Lightning's logger writes the curves."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from lightning import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.tensorboard.summary import hparams

from thaw.evaluation.judgement import AnyPredictions
from thaw.evaluation.label_predictions import LabelPredictions
from thaw.features.head_inputs import HeadInputs
from thaw.pages.text import printable
from thaw.training.loggers import attempt

_LAYOUT = {
    "training against validation": {
        "loss": ["Multiline", ["train/loss", "val/loss"]],
        "accuracy": ["Multiline", ["train/acc", "val/acc"]],
    }
}
_PROJECTED_IMAGES, _PROJECTED_NUMBERS = 1000, 1_000_000  # limited, because the browser parses all numbers as text


def add_layout(trainer: Trainer) -> None:
    """Add charts that show training and validation together, one per metric, to TensorBoard's tab Custom Scalars."""
    _on_each(trainer, lambda board: board.experiment.add_custom_scalars(_LAYOUT))


def add_figure(trainer: Trainer, name: str, pixels: np.ndarray) -> None:
    """Add the image `pixels`, uint8 (height, width, 3), to TensorBoard."""

    def add(board: TensorBoardLogger) -> None:
        board.experiment.add_image(name, pixels, trainer.global_step, dataformats="HWC")
        board.experiment.flush()

    _on_each(trainer, add)


@rank_zero_only
def record_values(trainer: Trainer, values: Mapping[str, object], summary: dict) -> None:
    """Add the settings `values` and the results of a finished run to TensorBoard's tab HParams.

    No range of values is declared: TensorBoard then finds the settings that differ between runs, and lists them first.
    """
    metric = summary["metric"]
    reached = {f"best/val/{metric}": summary["val"][metric], "cost/seconds": summary["seconds"]["total"]}
    settings = {name: printable(value) if isinstance(value, str) else value for name, value in values.items()}

    def add(board: TensorBoardLogger) -> None:
        _description, start, end = hparams(settings, reached)
        board.log_metrics(reached, trainer.global_step)
        board.experiment.file_writer.add_summary(start)
        board.experiment.file_writer.add_summary(end)
        board.finalize("success")

    _on_each(trainer, add)


def add_embedding(trainer: Trainer, inputs: HeadInputs, predictions: AnyPredictions, root: Path) -> None:
    """Add validation images as points to TensorBoard's tab Projector; close points have similar inputs of the head."""

    def add(board: TensorBoardLogger) -> None:
        rows_shown, vectors = inputs.spread(_PROJECTED_IMAGES, _PROJECTED_NUMBERS), inputs.vectors
        if vectors is None:  # hooks were skipped
            return
        points = vectors[rows_shown]
        if not points.isfinite().all():  # the net diverged
            return
        rows = []
        for i in map(int, inputs.shown[rows_shown]):
            path = Path(predictions.paths[i]).relative_to(root).as_posix()
            rows.append([*map(printable, _names(predictions, i)), printable(path)])
        labels = {"metadata": rows, "metadata_header": ["class", "predicted", "path"]}
        where = {"global_step": trainer.global_step, "tag": "validation_images"}
        board.experiment.add_embedding(_rounded(points), **labels, **where)
        board.experiment.flush()

    _on_each(trainer, add)


def _names(predictions: AnyPredictions, index: int) -> list[str]:
    """Return the true and the predicted class or classes of an image."""
    both = predictions.labels[index], predictions.predicted[index]
    if isinstance(predictions, LabelPredictions):
        return [predictions.names(one) or "none" for one in both]
    return [predictions.classes[int(one)] for one in both]


def _rounded(numbers: torch.Tensor) -> torch.Tensor:
    """Round so that the largest number has five significant digits. The numbers then take a third of the characters."""
    largest = numbers.abs().max().item() or 1.0
    return numbers.double().round(decimals=4 - math.floor(math.log10(largest)))


def _on_each(trainer: Trainer, act: Callable[[TensorBoardLogger], None]) -> None:
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            attempt(logger, lambda board=logger: act(board))
