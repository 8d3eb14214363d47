"""What a run leaves in TensorBoard: figures, hyperparameters and an embedding of images."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch.utils.tensorboard.summary import hparams

from thaw.evaluation.judgement import AnyPredictions
from thaw.evaluation.label_predictions import LabelPredictions
from thaw.features.head_inputs import HeadInputs
from thaw.pages.text import printable
from thaw.report.run_record import RunRecord, Settings
from thaw.runs.shown_commands import tensorboard_command
from thaw.runs.tracked_folder import TrackedFolder

_LAYOUT = {
    "training against validation": {
        "loss": ["Multiline", ["train/loss", "val/loss"]],
        "accuracy": ["Multiline", ["train/acc", "val/acc"]],
    }
}
_PROJECTED_IMAGES, _PROJECTED_NUMBERS = 1000, 1_000_000  # limited, because the browser parses all numbers as text


class TensorBoardRecord(RunRecord[TensorBoardLogger]):
    """A run in TensorBoard."""

    def start(self, settings: Settings, folder: TrackedFolder) -> None:
        """Add charts that show training and validation together, one per metric, to the tab Custom Scalars."""
        if not folder.continues:
            self.logger.experiment.add_custom_scalars(_LAYOUT)

    def figure(self, name: str, path: Path, step: int) -> None:
        with Image.open(path) as image:
            self.logger.experiment.add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")
        self.logger.experiment.flush()

    def embedding(self, inputs: HeadInputs, predictions: AnyPredictions, root: Path, step: int) -> None:
        """Add validation images as points to the tab Projector; close points have similar inputs of the head."""
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
        self.logger.experiment.add_embedding(_rounded(points), **labels, global_step=step, tag="validation_images")
        self.logger.experiment.flush()

    def results(self, settings: Settings, results: Mapping[str, float], files: Sequence[Path], step: int) -> None:
        """Add settings and results to the tab HParams.

        No range of values is declared: TensorBoard then finds the settings that differ between runs, and lists them
        first.
        """
        decisive = "best/val/map" if "best/val/map" in results else "best/val/acc"
        reached = {name: results[name] for name in (decisive, "cost/seconds")}  # each is also a chart of its own
        shown = {name: printable(value) if isinstance(value, str) else value for name, value in settings.items()}
        _description, start, end = hparams(shown, reached)
        self.logger.log_metrics(reached, step)
        self.logger.experiment.file_writer.add_summary(start)
        self.logger.experiment.file_writer.add_summary(end)

    def view(self, folder: Path) -> str:
        return f"curves   {tensorboard_command(folder)}"


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
