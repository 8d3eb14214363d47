"""What a run leaves in a logger besides the curves, for any logger of Lightning."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from lightning.pytorch.loggers import Logger

from thaw.evaluation.judgement import AnyPredictions
from thaw.features.head_inputs import HeadInputs
from thaw.runs.tracked_folder import TrackedFolder

Settings = Mapping[str, object]
L = TypeVar("L", bound=Logger)


class RunRecord(Generic[L]):
    """The settings, figures and results of a run in one logger. Subclasses know what their logger shows."""

    nests = False  # whether a run names the run of its sweep, which must then exist first

    def __init__(self, logger: L):
        self.logger = logger

    @staticmethod
    def arguments(given: Mapping[str, Any], folder: TrackedFolder) -> dict[str, Any]:
        """Return arguments for building the logger of the run in `folder`; `given` are those in the configuration."""
        return {}

    @staticmethod
    def prepare(arguments: Mapping[str, Any]) -> None:
        """Prepare what the logger needs before it is built with `arguments`."""

    def start(self, settings: Settings, folder: TrackedFolder) -> None:
        self.logger.log_hyperparams(dict(settings))

    def figure(self, name: str, path: Path, step: int) -> None:
        """Add the figure in the PNG file `path`."""

    def embedding(self, inputs: HeadInputs, predictions: AnyPredictions, root: Path, step: int) -> None:
        """Add validation images as points."""

    def results(self, settings: Settings, results: Mapping[str, float], files: Sequence[Path], step: int) -> None:
        """Add the final numbers and files."""
        self.logger.log_metrics(dict(results), step)

    def describe(self, text: str, best: str) -> None:
        """Add a text about the run of a sweep, and the name of the best candidate."""

    def end(self, status: str) -> None:
        """End the record of a run with the status `success`, `failed` or `stopped`."""
        type(self.logger).finalize(self.logger, status)  # `shield` replaces the object's own finalize

    def give_up(self) -> None:
        """Release what a failed logger still holds."""

    def view(self, folder: Path) -> str:
        """Return a line with the command that shows the record; empty if there is none."""
        return ""
