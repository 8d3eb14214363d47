"""A run's figures, in its folder and in TensorBoard: none of them can fail it."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lightning import Trainer
from lightning.pytorch.utilities import rank_zero_only
from matplotlib.figure import Figure

from thaw.data.datamodule import ImageFolderDataModule
from thaw.evaluation.evaluation import Evaluation
from thaw.pages import charts
from thaw.report import figures, tensorboard
from thaw.runs.extras import warn_on_failure

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seen:
    """What a finished run has to show: its validation images as its head sees them, its answers, and the solver's."""

    evaluation: Evaluation
    head_inputs: tensorboard.HeadInputs
    solution: dict | None


@rank_zero_only
def picture_samples(folder: str, trainer: Trainer, data: ImageFolderDataModule) -> None:
    """Picture some training images before the run starts."""
    tensorboard.lay_out(trainer)
    shown = figures.first_samples(data.train, data.seed)  # an image that cannot be read is told now
    _show(Path(folder), trainer, "samples", lambda: figures.samples(shown, data.classes))


@rank_zero_only
def picture_results(folder: str, trainer: Trainer, data: ImageFolderDataModule, seen: Seen) -> None:
    """Picture what came of a run whose results are written."""
    try:
        _picture(Path(folder), trainer, data, seen)
    except KeyboardInterrupt:
        log.warning("warning: stopped while figures were drawn; the results are complete")
        raise SystemExit(130) from None


def _picture(folder: Path, trainer: Trainer, data: ImageFolderDataModule, seen: Seen) -> None:
    evaluation = seen.evaluation
    _show(folder, trainer, "predictions", lambda: figures.predictions(data.val, evaluation))
    _show(folder, trainer, "confusion_matrix", lambda: figures.confusion_matrix(evaluation))
    if seen.solution:
        _show(folder, trainer, "probe", lambda: charts.penalty_path(seen.solution))
    tensorboard.project(trainer, seen.head_inputs, evaluation, data.root)


def _show(folder: Path, trainer: Trainer, name: str, draw: Callable[[], Figure]) -> None:
    """Keep a figure as `figures/<name>.png` and in TensorBoard."""
    path = folder / "figures" / f"{name}.png"
    with warn_on_failure(f"the figure {path}"):
        tensorboard.show(trainer, name, charts.save(draw(), path))
