"""Runs of a search as jobs, each in a fork of this process, and the data options that keep its result honest."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from thaw.comparison.finished_runs import Run
from thaw.runs import run_files
from thaw.runs.configuration import resolved_job
from thaw.runs.idle_options import is_idle, options_without_effect
from thaw.runs.stopping import Stopped
from thaw.runs.summary import read_summary
from thaw.storage.files import read_rows
from thaw.sweep.execution import SignalRelay, cause_of_death, clear, record_death
from thaw.sweep.jobs import Job
from thaw.sweep.processes import Process
from thaw.sweep.search.rungs import Curve, Epoch
from thaw.sweep.search.search_loop import RunResult
from thaw.sweep.search.search_space import STRATEGY, Space
from thaw.sweep.search.trial_record import Trial

TRIALS = "trials"
_POLL = 0.2  # seconds between two looks at a run
_GRACE = 20  # seconds that a stopped run has to end
_EPOCHS = "trainer.max_epochs"


@dataclass(frozen=True)
class Jobs:
    """Runs jobs in `folder`, one at a time.

    Args:
        fixed: overrides that all jobs share.
        compose: returns the configuration of a job from its overrides.
        task: runs a job in the current process, given its overrides.
        tick: is called while a job runs.

    """

    folder: Path
    fixed: Sequence[str]
    compose: Callable[[Sequence[str]], DictConfig]
    task: Callable[[Job, list[str]], None]
    tick: Callable[[Job], None] = lambda job: None
    _configurations: dict[tuple[str, ...], DictConfig] = field(default_factory=dict)

    def job(self, name: str, overrides: Sequence[str]) -> Job:
        """Return the job whose folder is `name`, relative to the search's folder."""
        given = [*self.fixed, *overrides]
        cfg = self.configuration(overrides)
        strategy, epochs = cfg.hydra.runtime.choices.strategy, self.epochs(overrides)
        return Job(0, name, self.folder / name, given, strategy, epochs, cfg)

    def configuration(self, overrides: Sequence[str]) -> DictConfig:
        key = tuple(overrides)
        if key not in self._configurations:
            self._configurations[key] = self.compose([*self.fixed, *overrides])
        return self._configurations[key]

    def epochs(self, overrides: Sequence[str]) -> int:
        """Return the number of epochs of a run."""
        cfg = self.configuration(overrides)
        phases = resolved_job(cfg)["strategy"]["phases"]
        return len(phases) if all(phase.get("solver") for phase in phases) else cfg.trainer.max_epochs

    def run(self, job: Job, watch: Callable[[Curve], str | None]) -> RunResult:
        """Run or resume a job until it ends or `watch` returns a reason to stop it.

        Raises:
            Stopped: if a signal stopped this process.
            UserError: if another process trains in the job's folder.

        """
        if job.finished:
            return _result(job)
        arguments, stopped, start = job.arguments, None, time.monotonic()
        clear(job)
        with SignalRelay() as stop:
            stop.process = process = Process(lambda: self.task(job, arguments), job.folder / run_files.CONSOLE)
            while not process.wait(seconds=_POLL):
                self.tick(job)
                if not stopped and (stopped := watch(epoch_metrics(job))):
                    process.stop(_GRACE)
            stop.process = None
        if stop.received:
            raise Stopped(stop.received)
        if not stopped and not job.summary:
            record_death(job, cause_of_death(process.status))
        return _result(job, stopped, time.monotonic() - start)


def epoch_metrics(job: Job) -> list[Epoch]:
    """Return validation accuracy and loss of each epoch so far."""
    path = job.folder / run_files.METRICS
    rows = read_rows(path) if path.is_file() else []
    return [(float(row["val/acc"]), float(row["val/loss"])) for row in rows if row["seconds"]]


def _result(job: Job, stopped: str | None = None, seconds: float | None = None) -> RunResult:
    summary = job.summary
    taken = summary["seconds"]["total"] if job.finished else seconds or 0.0
    error = None if job.finished or stopped else summary.get("error") or f"it ended as {summary.get('status', 'lost')}"
    return RunResult(epoch_metrics(job), taken, stopped if not job.finished else None, error)


@dataclass(frozen=True)
class TrialJobs:
    """Runner of trials as jobs, with validation images that leave the test images unseen."""

    jobs: Jobs
    space: Space
    unseen: Sequence[str]  # overrides by which a run neither reads nor validates on the images of the final number

    def epochs(self, overrides: Sequence[str]) -> int:
        return self.jobs.epochs([*overrides, *self.unseen])

    def run(self, trial: Trial, repetition: int, watch: Callable[[Curve], str | None]) -> RunResult:
        return self.jobs.run(self.job(trial, repetition), watch)

    def job(self, trial: Trial, repetition: int) -> Job:
        own = self.space.instances[repetition]
        name = f"{trial.number:03d}-{trial.params[STRATEGY]}" + (f"-{repetition}" if own else "")
        return self.jobs.job(f"{TRIALS}/{name}", [*trial.overrides, *own, *self.unseen])

    def trial_ends(self, trial: Trial, best: bool) -> None:
        """Delete the trial's checkpoints, which would fill the disk. The best trial so far keeps its best weights."""
        own = [self.job(trial, repetition).folder for repetition in range(len(self.space.instances))]
        for folder in own:
            (folder / run_files.LAST).unlink(missing_ok=True)
        worse = set((self.jobs.folder / TRIALS).glob("*/")) - set(own) if best else own
        for folder in worse:
            if read_summary(folder).get("status") == "finished" or folder in own:
                (folder / run_files.BEST).unlink(missing_ok=True)

    def right(self, trial: Trial) -> np.ndarray:
        """Return which validation images the trial's first run classified correctly, bool (n,)."""
        rows = Run(self.job(trial, 0).folder).predictions
        return np.array([label == predicted for _, label, predicted, _ in rows])

    def sizes(self, trials: Sequence[Trial]) -> dict[int, int]:
        """Return the number of parameters of each complete trial's network, by the trial's number."""
        summaries = {trial.number: self.job(trial, 0).summary for trial in trials if trial.complete}
        return {number: summary["parameters"]["total"] for number, summary in summaries.items() if summary}

    def configured(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of the space's dimensions that a run with `params` has by default."""
        cfg = self.jobs.configuration([*self.space.overrides(params), *self.unseen])
        found = {}
        for one in self.space.dimensions:
            choices = cfg.hydra.runtime.choices
            value = choices[one.key] if one.key in choices else OmegaConf.select(cfg, one.key.lstrip("+"))
            if (inside := one.value_of(value)) is not None:
                found[one.key] = inside
        return found

    def active(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of `params` that have an effect in a run with all of them."""
        reasons = options_without_effect(
            resolved_job(self.jobs.configuration([*self.space.overrides(params), *self.unseen]))
        )
        idle = {
            one.key
            for one in self.space.dimensions
            if one.key in params and is_idle(one.override(params[one.key]), reasons)
        }
        idle |= {_EPOCHS} if is_idle("optimizer=", reasons) else set()
        return {key: value for key, value in params.items() if key not in idle}
