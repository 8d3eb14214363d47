"""A search in which runs cost simulated seconds and follow given learning curves."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("optuna")

from optuna.distributions import CategoricalDistribution, FloatDistribution

from thaw.sweep.search.proposals import Proposals
from thaw.sweep.search.search_loop import RunResult, Search
from thaw.sweep.search.search_space import Dimension, Space
from thaw.sweep.search.time_budget import TimeBudget
from thaw.sweep.search.trial_record import TrialRecord

POLL = 0.2


@dataclass
class Clock:
    now: float = 1e9

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@dataclass
class Runs:
    """Runs with `curve(trial, repetition)`, of `seconds(trial)` for each epoch, after `start` seconds."""

    clock: Clock
    curve: object
    seconds: object = lambda trial: 1.0
    length: int = 10
    start: float = 2.0
    images: int = 200
    ran: list = field(default_factory=list)

    def epochs(self, trial):
        return 1 if "strategy=probe" in trial.overrides else self.length

    def run(self, trial, repetition, watch):
        self.ran.append((trial.number, repetition))
        curve, seen, began = self.curve(trial, repetition), [], self.clock.now
        self.clock.sleep(self.start)
        for accuracy in curve[: self.epochs(trial)]:
            end = self.clock.now + self.seconds(trial)
            while self.clock.now < end:
                self.clock.sleep(min(POLL, end - self.clock.now))
                if stopped := watch(seen):
                    self.clock.sleep(1.0)
                    return RunResult(seen, self.clock.now - began, stopped)
            seen.append((accuracy, 1 - accuracy))
        return RunResult(seen, self.clock.now - began)

    def trial_ends(self, trial, best):
        pass

    def right(self, trial):
        return np.arange(self.images) < round(trial.accuracy * self.images)


def space(nets=("good", "other"), strategies=("probe", "feature_extractor", "fine_tune"), instances=([],)):
    dimensions = [
        Dimension("lr_factor", FloatDistribution(0.1, 10, log=True)),
        Dimension("scheduler", CategoricalDistribution(["step_lr", "cosine"])),
    ]
    return Space({name: [f"model={name}"] for name in nets}, list(strategies), dimensions, list(instances))


def search(folder, runs, varied, seconds=1e6, most=None, reserve=lambda trials: 0.0, seed=0):
    folder.mkdir(parents=True, exist_ok=True)

    def active(params):
        return {key: params[key] for key in ("backbone", "strategy")} if params["strategy"] == "probe" else params

    def configured(params):
        return {key: params.get(key, default) for key, default in (("lr_factor", 1.0), ("scheduler", "step_lr"))}

    proposals = Proposals(varied, configured, active, runs.right, seed)
    budget = TimeBudget(folder, seconds, runs.clock)
    return Search(TrialRecord(folder), proposals, runs, budget, most, reserve, sleep=runs.clock.sleep)


@dataclass
class SimulatedJob:
    name: str
    overrides: list
    folder: Path = Path("nowhere")
    summary: dict = field(default_factory=dict)

    @property
    def finished(self):
        return self.summary.get("status") == "finished"


@dataclass
class LastRuns:
    """Runs of the last stage, each of `seconds()`, which end at the poll after `watch` returns a reason."""

    clock: Clock
    seconds: object
    jobs: dict = field(default_factory=dict)

    folder: Path = Path("nowhere")

    def job(self, folder, name, overrides):
        return self.jobs.setdefault(folder, SimulatedJob(name, overrides))

    def run(self, job, watch):
        began, end = self.clock.now, self.clock.now + self.seconds()
        while self.clock.now < end:
            self.clock.sleep(min(POLL, end - self.clock.now))
            if stopped := watch([]):
                self.clock.sleep(2.0)
                return RunResult([], self.clock.now - began, stopped)
        job.summary |= {"status": "finished", "val": {"acc": 0.9, "loss": 0.1}, "weights": "imagenet"}
        return RunResult([(0.9, 0.1)], self.clock.now - began)
