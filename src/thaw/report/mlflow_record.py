"""What a run leaves in MLflow: parameters, figures and files as artifacts, and its place in a sweep."""

import logging
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.utils import to_absolute_path
from lightning.pytorch.loggers import MLFlowLogger

from thaw.report.run_record import RunRecord, Settings
from thaw.runs.tracked_folder import TrackedFolder

# MLflow's own defaults wait for an unreachable server for minutes, and send usage data.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
_LONGEST, _MOST = 6000, 100  # MLflow's limits: characters of a value, parameters in one request
_TRACKER = "mlflow"
_LOCAL = "sqlite:///"
_PATIENCE = 60  # seconds to wait for another run that creates the store


class MlflowRecord(RunRecord[MLFlowLogger]):
    """A run in MLflow. A job's run is nested in its sweep's run."""

    nests = True

    @staticmethod
    def arguments(given: Mapping[str, Any], folder: TrackedFolder) -> dict[str, Any]:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # it warns of each retry
        ids, sweep = folder.ids(_TRACKER), folder.sweep_ids(_TRACKER)
        chosen = given.get("tracking_uri") or os.environ.get("MLFLOW_TRACKING_URI")
        uri = ids.get("tracking_uri") or chosen or sweep.get("tracking_uri") or _local_store()
        name = given.get("experiment_name") or "thaw"
        nested = {"mlflow.parentRunId": sweep["run_id"]} if sweep.get("tracking_uri") == uri else {}
        return {
            "tracking_uri": uri,
            "experiment_name": name,
            "artifact_location": given.get("artifact_location") or (None if chosen else _local_artifacts(name)),
            "run_id": ids.get("run_id"),
            "run_name": given.get("run_name") or folder.name,
            "tags": {"folder": str(folder.path), **nested, **(given.get("tags") or {})},
        }

    @staticmethod
    def prepare(arguments: Mapping[str, Any]) -> None:
        """Create the store and the experiment, because two runs that do so at the same time fail."""
        from mlflow.tracking import MlflowClient

        uri, name = arguments["tracking_uri"], arguments["experiment_name"]
        local = uri.startswith(_LOCAL)
        with FileLock(f"{uri.removeprefix(_LOCAL)}.lock", timeout=_PATIENCE) if local else nullcontext():
            client = MlflowClient(uri)
            if client.get_experiment_by_name(name) is None:
                client.create_experiment(name, arguments["artifact_location"])

    def start(self, settings: Settings, folder: TrackedFolder) -> None:
        """Add parameters. MLflow refuses a new value of a parameter, so what a resumed run changes becomes a tag."""
        from mlflow.entities import Param

        client, run = self.logger.experiment, str(self.logger.run_id)
        folder.keep(_TRACKER, {"tracking_uri": self.logger._tracking_uri, "run_id": run})
        client.update_run(run, status="RUNNING")
        known = client.get_run(run).data.params
        values = {_valid(key): str(value)[:_LONGEST] for key, value in settings.items()}
        added = [Param(key, value) for key, value in values.items() if key not in known]
        for first in range(0, len(added), _MOST):
            client.log_batch(run, params=added[first : first + _MOST])
        for key in known.keys() & values.keys():
            if known[key] != values[key]:
                client.set_tag(run, key, values[key])

    def figure(self, name: str, path: Path, step: int) -> None:
        self.logger.experiment.log_artifact(str(self.logger.run_id), str(path), "figures")

    def results(self, settings: Settings, results: Mapping[str, float], files: Sequence[Path], step: int) -> None:
        super().results(settings, results, files, step)
        for path in files:
            self.logger.experiment.log_artifact(str(self.logger.run_id), str(path))

    def describe(self, text: str, best: str) -> None:
        for tag, value in {"mlflow.note.content": text, "best": best}.items():
            self.logger.experiment.set_tag(str(self.logger.run_id), tag, value)

    def end(self, status: str) -> None:
        super().end("KILLED" if status == "stopped" else status)

    def view(self, folder: Path) -> str:
        uri = self.logger._tracking_uri
        shown = f"mlflow ui --backend-store-uri {shlex.quote(uri)}" if uri.startswith("sqlite:") else uri
        return f"mlflow   {shown}"


def _local_store() -> str:
    """Return the database in the working directory, where `mlflow ui` looks for it."""
    return f"{_LOCAL}{to_absolute_path('mlflow.db')}"


def _local_artifacts(experiment: str) -> str:
    """Return a folder beside the local store; MLflow's default changes with `hydra.job.chdir`."""
    return (Path(to_absolute_path("mlruns")) / experiment).as_uri()


def _valid(key: str) -> str:
    """Replace characters that MLflow refuses in names."""
    return re.sub(r"[^\w\-./ :]", "_", key)[:250]
