"""Write the figures of a run to its folder and its loggers. An error in a figure never fails the run."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lightning import Trainer
from lightning.pytorch.utilities import rank_zero_only
from matplotlib.figure import Figure

from thaw.data.datamodule import ImageFolderDataModule
from thaw.evaluation.judgement import AnyPredictions
from thaw.evaluation.label_predictions import LabelPredictions
from thaw.features.head_inputs import HeadInputs
from thaw.pages import charts
from thaw.report import figures
from thaw.report.recording import on_each
from thaw.runs.optional_output import warn_on_failure

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Results:
    """The values to plot after a run: calibrated predictions, the head's inputs, and the solver's record."""

    predictions: AnyPredictions
    head_inputs: HeadInputs
    solution: dict | None


@rank_zero_only
def picture_samples(folder: str, trainer: Trainer, data: ImageFolderDataModule) -> None:
    """Plot some training images before training starts."""
    name = partial(data.label_sets.name, classes=data.classes)
    shown = figures.first_samples(data.train, data.seed)  # not in the lambda: an unreadable image must fail the run
    _save_figure(Path(folder), trainer, "samples", lambda: figures.samples(shown, name))


@rank_zero_only
def picture_results(folder: str, trainer: Trainer, data: ImageFolderDataModule, results: Results | None) -> None:
    """Plot the results of a run after writing them to files. On ranks above 0, `results` is None."""
    if results is None:
        return
    try:
        predictions, solution, place = results.predictions, results.solution, Path(folder)
        _save_figure(place, trainer, "predictions", lambda: figures.predictions(data.val, predictions))
        if isinstance(predictions, LabelPredictions):
            _save_figure(place, trainer, "average_precision", lambda: figures.average_precisions(predictions))
        else:
            _save_figure(place, trainer, "confusion_matrix", lambda: figures.confusion_matrix(predictions))
        if solution:
            _save_figure(place, trainer, "probe", lambda: charts.penalty_path(solution))
        shown = results.head_inputs, predictions, data.root, trainer.global_step
        on_each(trainer.loggers, lambda record: record.embedding(*shown))
    except KeyboardInterrupt:
        log.warning("warning: interrupted while drawing figures; the results are complete")
        raise SystemExit(130) from None


def _save_figure(folder: Path, trainer: Trainer, name: str, draw: Callable[[], Figure]) -> None:
    path = folder / "figures" / f"{name}.png"
    with warn_on_failure(f"the figure {path}"):
        charts.save(draw(), path)
        on_each(trainer.loggers, lambda record: record.figure(name, path, trainer.global_step))
