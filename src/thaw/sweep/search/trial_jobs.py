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
from thaw.runs.summary import has_finished, read_summary
from thaw.sweep.forks import SignalRelay, run_fork
from thaw.sweep.jobs import Job
from thaw.sweep.search.rungs import Curve
from thaw.sweep.search.search_loop import RunResult
from thaw.sweep.search.search_space import STRATEGY, Space
from thaw.sweep.search.trial_record import Trial

TRIALS = "trials"
_KEPT = 8  # jobs whose configurations stay in memory
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
    _jobs: dict[tuple[str, ...], Job] = field(default_factory=dict)

    def job(self, folder: str, name: str, overrides: Sequence[str]) -> Job:
        """Return the job that runs in `folder`, relative to the search's folder; `name` is shown while it runs."""
        key = (folder, *overrides)
        if key not in self._jobs:  # composing its configuration takes a moment
            for old in list(self._jobs)[:-_KEPT]:
                del self._jobs[old]
            cfg = self.configuration(overrides)
            strategy, epochs = cfg.hydra.runtime.choices.strategy, _epochs(cfg)
            self._jobs[key] = Job(0, name, self.folder / folder, [*self.fixed, *overrides], strategy, epochs, cfg)
        return self._jobs[key]

    def configuration(self, overrides: Sequence[str]) -> DictConfig:
        """Return the configuration of a run."""
        return self.compose([*self.fixed, *overrides])

    def run(self, job: Job, watch: Callable[[Curve], str | None]) -> RunResult:
        """Run or resume a job until it ends or `watch` returns a reason to stop it.

        Raises:
            Stopped: if a signal stopped this process.
            UserError: if another process trains in the job's folder.

        """
        if job.finished:
            return _result(job)
        start = time.monotonic()

        def look() -> str | None:
            self.tick(job)
            return watch(job.metrics)

        with SignalRelay() as stop:
            stopped = run_fork(job, self.task, stop, look)
        if stop.received:
            raise Stopped(stop.received)
        return _result(job, stopped, time.monotonic() - start)


def _epochs(cfg: DictConfig) -> int:
    phases = resolved_job(cfg)["strategy"]["phases"]
    return len(phases) if all(phase.get("solver") for phase in phases) else cfg.trainer.max_epochs


def _result(job: Job, stopped: str | None = None, seconds: float = 0.0) -> RunResult:
    summary = job.summary
    if summary.get("status") == "finished":
        return RunResult(job.metrics, summary["seconds"]["total"])
    error = None if stopped else summary.get("error") or f"it ended as {summary.get('status', 'lost')}"
    return RunResult(job.metrics, seconds, stopped, error)


@dataclass(frozen=True)
class TrialJobs:
    """Runner of trials as jobs, with validation images that leave the test images unseen."""

    jobs: Jobs
    space: Space
    unseen: Sequence[str]  # overrides by which a run neither reads nor validates on the images of the final number

    def epochs(self, trial: Trial) -> int:
        return self.job(trial, 0).epochs

    def run(self, trial: Trial, repetition: int, watch: Callable[[Curve], str | None]) -> RunResult:
        return self.jobs.run(self.job(trial, repetition), watch)

    def job(self, trial: Trial, repetition: int) -> Job:
        overrides = [*trial.overrides, *self.space.instances[repetition], *self.unseen]
        name = f"trial {trial.number} · {trial.params[STRATEGY]}"
        return self.jobs.job(self._place(trial, repetition), name, overrides)

    def _place(self, trial: Trial, repetition: int) -> str:
        own = f"-{repetition}" if self.space.instances[repetition] else ""
        return f"{TRIALS}/{trial.number:03d}-{trial.params[STRATEGY]}{own}"

    def folder(self, trial: Trial, repetition: int = 0) -> Path:
        """Return the folder of a trial's run."""
        return self.jobs.folder / self._place(trial, repetition)

    def trial_ends(self, trial: Trial, best: bool) -> None:
        """Delete the trial's checkpoints, which would fill the disk. The best trial so far keeps its best weights."""
        own = [self.folder(trial, repetition) for repetition in range(len(self.space.instances))]
        for folder in own:
            (folder / run_files.LAST).unlink(missing_ok=True)
        others = set((self.jobs.folder / TRIALS).glob("*/")) - set(own)
        for folder in filter(has_finished, others) if best else own:
            (folder / run_files.BEST).unlink(missing_ok=True)

    def right(self, trial: Trial) -> np.ndarray:
        """Return which validation images the trial's first run classified correctly, bool (n,)."""
        rows = Run(self.folder(trial)).predictions
        return np.array([label == predicted for _, label, predicted, _ in rows])

    def sizes(self, trials: Sequence[Trial]) -> dict[int, int]:
        """Return the number of parameters of each complete trial's network, by the trial's number."""
        summaries = {trial.number: read_summary(self.folder(trial)) for trial in trials if trial.complete}
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
        cfg = self.jobs.configuration([*self.space.overrides(params), *self.unseen])
        reasons = options_without_effect(resolved_job(cfg))
        given = [one for one in self.space.dimensions if one.key in params]
        idle = {one.key for one in given if is_idle(one.override(params[one.key]), reasons)}
        idle |= {_EPOCHS} if is_idle("optimizer=", reasons) else set()  # a solver takes one epoch
        return {key: value for key, value in params.items() if key not in idle}
