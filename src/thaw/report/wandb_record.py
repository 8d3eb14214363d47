"""What a run leaves in Weights & Biases: its configuration, figures, files, and the sweep as its group."""

import os
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.utils import to_absolute_path
from lightning.pytorch.loggers import WandbLogger

from thaw.report.run_record import RunRecord, Settings
from thaw.runs.tracked_folder import TrackedFolder

_ENVIRONMENT = {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
_EXIT = {"success": 0, "failed": 1, "stopped": 255}  # W&B shows 255 as stopped by the user
_TRACKER = "wandb"


class WandbRecord(RunRecord[WandbLogger]):
    """A run in Weights & Biases."""

    @staticmethod
    def arguments(given: Mapping[str, Any], folder: TrackedFolder) -> dict[str, Any]:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        return {
            "id": folder.ids(_TRACKER).get("id"),
            "name": given.get("name") or folder.name,
            "group": given.get("group") or (folder.sweep and folder.sweep.name),
            "job_type": "sweep" if folder.is_sweep else "run",
            "mode": given.get("mode") or os.environ.get("WANDB_MODE") or "offline",
            "save_dir": given.get("save_dir") or to_absolute_path("."),
        }

    @staticmethod
    def prepare(arguments: Mapping[str, Any]) -> None:
        import wandb

        wandb.setup()  # reads the environment; without it, W&B warns of an argument that Lightning passes

    def start(self, settings: Settings, folder: TrackedFolder) -> None:
        super().start(settings, folder)
        folder.keep(_TRACKER, {"id": self.logger.experiment.id})

    def figure(self, name: str, path: Path, step: int) -> None:
        self.logger.log_image(name, [str(path)], step)

    def results(self, settings: Settings, results: Mapping[str, float], files: Sequence[Path], step: int) -> None:
        self.logger.experiment.summary.update(dict(results))
        for path in files:
            self.logger.experiment.save(path, base_path=path.parent, policy="now")

    def describe(self, text: str, best: str) -> None:
        self.logger.experiment.notes = text
        self.logger.experiment.summary["best"] = best

    def end(self, status: str) -> None:
        super().end(status)
        self.logger.experiment.finish(exit_code=_EXIT[status])

    def give_up(self) -> None:
        import wandb

        with suppress(Exception):  # otherwise W&B prints a traceback when Python ends
            wandb.teardown(exit_code=1)

    def view(self, folder: Path) -> str:
        run = self.logger.experiment
        return f"wandb    {run.url or f'wandb sync {shlex.quote(str(Path(run.dir).parent))}'}"
