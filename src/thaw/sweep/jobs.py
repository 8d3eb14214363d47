"""Jobs of a sweep: their folders, and which jobs remain."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, read_write

from thaw.errors import UserError
from thaw.runs import run_files
from thaw.runs.configuration import as_hydra_config, is_run, read_resolved, resolved_job
from thaw.runs.idle_options import refuse_idle_sweep
from thaw.runs.run_folder import is_free
from thaw.runs.shown_commands import quoted
from thaw.runs.summary import read_summary
from thaw.storage.files import read_rows


@dataclass(frozen=True)
class Job:
    """One run of a sweep, with the command line `overrides`."""

    number: int  # counted from 1
    name: str  # the overrides that distinguish this job from others
    folder: Path
    overrides: list[str]
    strategy: str
    epochs: int
    configuration: DictConfig  # including Hydra's part

    @property
    def finished(self) -> bool:
        return self.summary.get("status") == "finished"

    @property
    def summary(self) -> dict:
        """Return the run's summary; empty if it has not ended."""
        return read_summary(self.folder)

    @property
    def metrics(self) -> list[tuple[float, float]]:
        """Return the decisive metric and the loss of each epoch. Until training starts, an earlier run's are left."""
        rows = self._epochs
        metric = _decisive(rows)
        return [(float(row[metric]), float(row["val/loss"])) for row in rows if row["seconds"]]

    @property
    def metric(self) -> str:
        """Return the decisive metric's column in metrics.csv."""
        return _decisive(self._epochs)

    @property
    def _epochs(self) -> list[dict]:
        path = self.folder / run_files.METRICS
        return read_rows(path) if path.is_file() else []  # the last one may be half written

    @property
    def arguments(self) -> list[str]:
        """Return the command line that starts the run, or resumes it."""
        return [*self.overrides, *([f"resume={quoted(self.folder)}"] if self.resumes else [])]

    @property
    def resumes(self) -> bool:
        """Return whether there is a checkpoint to resume. A run that failed after it had started is not resumed."""
        failed = self.summary.get("status") == "failed" and self.summary.get("begun", True)
        return not failed and (self.folder / run_files.LAST).is_file()


def plan(compose: Callable[[list[str]], DictConfig], batch: Sequence[Sequence[str]], folder: Path) -> list[Job]:
    """Return the jobs of a sweep in `folder`; of several jobs with equal configurations, return only the first.

    A run that is already in `folder` is recognised by its configuration, whatever its folder is called. `batch` holds
    the overrides of each job. From these, `compose` returns the job's configuration, including Hydra's part.
    """
    kept = [(read_resolved(path), path) for path in sorted(folder.glob("*")) if is_run(path)]
    jobs: list[Job] = []
    seen: list[dict] = []
    for overrides in batch:
        cfg = compose(list(overrides))
        configuration = resolved_job(cfg)
        if configuration in seen:
            continue
        seen.append(configuration)
        run = next((path for values, path in kept if values == configuration), None)
        if run is None:
            run = _free(folder / _subfolder(cfg, len(jobs)), {job.folder for job in jobs})
        strategy, epochs = cfg.hydra.runtime.choices.strategy, OmegaConf.select(cfg, "trainer.max_epochs")
        name = _name(overrides, batch) or strategy
        jobs.append(Job(len(jobs) + 1, name, run, list(overrides), strategy, epochs, cfg))
    _refuse_moved_images([values for values, _ in kept if values not in seen], seen)
    return jobs


def _refuse_moved_images(left: Sequence[dict], planned: Sequence[dict]) -> None:
    """Refuse to train runs again only because their images were moved to another `data.root`."""
    for values in left:
        before = values.get("data", {}).get("root")
        if not isinstance(before, str) or Path(before).expanduser().exists():
            continue
        for other in planned:
            now = other["data"]["root"]
            if {**values, "data": {**values["data"], "root": now}} == other:
                raise UserError(
                    f"data.root={before} of this sweep no longer exists, and data.root={now} would train all runs "
                    f"again. Make {before} a link to the images, or choose another hydra.sweep.dir."
                )


def refuse_other_images(jobs: Sequence[Job]) -> None:
    """Refuse to continue a sweep whose finished jobs were trained on other images than there are now.

    Raises:
        UserError: if there is such a job; the message names the job and what has changed.

    """
    from thaw.data.fingerprint import difference
    from thaw.runs.components import instantiate
    from thaw.storage.checkpoints import read_checkpoint

    prints: dict[str, dict] = {}  # jobs that differ in other options have the same images
    for job in jobs:
        last = job.folder / run_files.LAST
        before = read_checkpoint(last).get("data") if job.finished and last.is_file() else None
        if before is None:
            continue
        options = resolved_job(job.configuration)["data"]
        if repr(options) not in prints:
            with as_hydra_config(job.configuration):
                prints[repr(options)] = instantiate(job.configuration.data).fingerprint
        if changed := difference(before, prints[repr(options)]):
            raise UserError(
                f"{job.name} was trained on other images than those now in data.root={options['root']}: {changed}. "
                "Restore the old images, or choose another hydra.sweep.dir."
            )


def check_jobs(jobs: Sequence[Job]) -> None:
    """Check each job's options against the signatures of its classes, before the first job starts.

    Raises:
        UserError: if a job could not start.

    """
    from thaw.data.data_options import DataOptions
    from thaw.data.datamodule import image_folders
    from thaw.runs.components import check_components, instantiate  # this loads code that a configuration names
    from thaw.runs.targets import refuse_foreign_targets

    planned: list[tuple[dict[str, Any], list[str]]] = []
    for job in jobs:
        values = resolved_job(job.configuration)
        refuse_foreign_targets(values)
        check_components(job.configuration, values)
        with as_hydra_config(job.configuration):  # the strategy's name refers to Hydra's values
            instantiate(job.configuration.strategy)
            if "preprocessing" in job.configuration.data:  # looks up the network, also in timm, once for all jobs
                instantiate(job.configuration.data.preprocessing)
        if job.configuration.data._target_ == f"{image_folders.__module__}.{image_folders.__name__}":
            plain = {field.name for field in fields(DataOptions)} - {"preprocessing"}
            DataOptions(**{key: value for key, value in values["data"].items() if key in plain})
        planned.append((values, job.overrides))
    refuse_idle_sweep(planned)


def _name(overrides: Sequence[str], batch: Sequence[Sequence[str]]) -> str:
    own = [override for override in overrides if not all(override in others for others in batch)]
    strategy_first = sorted(own, key=lambda override: not override.startswith("strategy="))
    return " ".join(override.removeprefix("strategy=") for override in strategy_first)


def _subfolder(cfg: DictConfig, number: int) -> str:
    with read_write(cfg.hydra):
        cfg.hydra.job.num, cfg.hydra.job.id = number, str(number)
    with as_hydra_config(cfg):
        return cfg.hydra.sweep.subdir


def _free(folder: Path, taken: set[Path]) -> Path:
    """Return `folder`. If something already uses this folder, append the first free number to its name."""
    candidate, count = folder, 1
    while candidate in taken or not is_free(candidate):
        count += 1
        candidate = folder.with_name(f"{folder.name}-{count}")
    return candidate


def _decisive(epochs: Sequence[dict]) -> str:
    return "val/map" if epochs and "val/map" in epochs[0] else "val/acc"
