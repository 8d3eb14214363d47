"""The last stage: the best configurations and the strategies' defaults run again, on fresh seeds and unseen images.

The winner is chosen before these images are looked at. Its accuracy on them is therefore unbiased, unlike the best
value that the search found.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from thaw.sweep.jobs import Job
from thaw.sweep.search.search_loop import OUT_OF_TIME, RunResult, best_trial
from thaw.sweep.search.search_space import BACKBONE, STRATEGY, Space
from thaw.sweep.search.time_budget import TimeBudget
from thaw.sweep.search.trial_jobs import Jobs
from thaw.sweep.search.trial_record import Trial, TrialRecord, finished

FINAL, MODEL, FINALISTS = "final", "model", "finalists"
_BEST = 3  # trials that run again
_SEEDS = 3  # fresh seeds
_LARGEST = 0.45  # share of the budget that may be kept for the last stage
_LONGER = 1.3  # a run of the last stage takes longer than its trial: it also predicts the test images
_PAGE = 6.0  # seconds to compare and to write the pages
_MORE_IMAGES = 1.25  # the model for use also trains on the images that the search validated on


def finalists(trials: Sequence[Trial], space: Space) -> list[Trial]:
    """Return the trials to run again: the winner, the best default, the next best trials, the other defaults.

    Defaults are the strategies with their own options on the winner's backbone.
    """
    winner = best_trial(trials)
    if winner is None:
        return []
    ranked = sorted((t for t in finished(trials) if t.complete), key=lambda t: (t.score, -t.number), reverse=True)
    defaults = [trial for trial in ranked if _is_default(trial, trials, space, winner.params[BACKBONE])]
    chosen = [winner, *defaults[:1], *ranked[:_BEST], *defaults]
    return [trials[number] for number in dict.fromkeys(trial.number for trial in chosen)]


def _is_default(trial: Trial, trials: Sequence[Trial], space: Space, backbone: str) -> bool:
    """Return whether a trial is the first one of its strategy on `backbone`, which tries the strategy's defaults."""
    alike = [
        t for t in trials if t.params.get(BACKBONE) == backbone and t.params.get(STRATEGY) == trial.params[STRATEGY]
    ]
    return (
        bool(alike)
        and alike[0].number == trial.number
        and trial.number < len(space.backbones) + 2 * len(space.strategies)
    )


@dataclass(frozen=True)
class FinalRun:
    """A run of the last stage: `overrides` on `seed`; `trial` is the number of the trial that it repeats."""

    name: str
    trial: int
    overrides: list[str]
    seed: int
    seconds: float  # expected


@dataclass(frozen=True)
class FinalStage:
    """The runs of the last stage, which several processes can share.

    Args:
        unseen: overrides that make the images, which no trial has seen, the test images.
        seed: the largest seed of the trials; fresh seeds follow.

    """

    jobs: Jobs
    record: TrialRecord
    space: Space
    unseen: Sequence[str]
    seed: int

    def reserve(self, trials: Sequence[Trial], budget: float) -> float:
        """Return the seconds to keep for the last stage, at most `_LARGEST` of the budget."""
        runs = self.runs(finalists(trials, self.space)) if best_trial(trials) else []
        wanted = _PAGE + sum(run.seconds for run in runs)
        return min(wanted, _LARGEST * budget)

    def runs(self, chosen: Sequence[Trial]) -> list[FinalRun]:
        """Return the runs, the most important first: the winner, the model for use, then the others seed by seed."""
        found = []
        for seed in range(self.seed + 1, self.seed + 1 + _SEEDS):
            for trial in chosen:
                expected = _LONGER * trial.seconds / max(1, len(trial.curves))
                overrides = [*trial.overrides, f"seed={seed}", *self.unseen]
                name = f"{FINAL}/{trial.number:03d}-{trial.params[STRATEGY]}-{seed}"
                found.append(FinalRun(name, trial.number, overrides, seed, expected))
        if found and self.unseen:  # otherwise the winner's run itself is the model for use
            winner = chosen[0]
            expected = _MORE_IMAGES * found[0].seconds
            own = [*winner.overrides, f"seed={self.seed + 1}"]
            found.insert(1, FinalRun(MODEL, winner.number, own, self.seed + 1, expected))
        return found

    def run(self, budget: TimeBudget, report: Callable[[FinalRun, RunResult], None]) -> None:
        """Run what fits into the time that is left."""
        chosen = self._chosen()
        runs, slower = self.runs(chosen), 1.0
        while True:
            waiting, ran = False, False
            for one in runs:
                job = self.job(one)
                if job.finished:
                    continue
                if budget.left() < _PAGE + slower * one.seconds:
                    continue
                give_back = self.record.claim(one.name.replace("/", "-"))
                if give_back is None:
                    waiting = True
                    continue
                try:
                    result = self.jobs.run(job, lambda curve: OUT_OF_TIME if budget.left() < _PAGE / 2 else None)
                finally:
                    give_back()
                report(one, result)
                ran = True
                if result.error:
                    runs = [other for other in runs if other.name != one.name]
                elif one.seconds and not result.stopped:
                    slower = max(1.0, result.seconds / one.seconds)
                break
            if not ran and not waiting:
                return
            if not ran:
                time.sleep(0.2)

    def finished(self) -> list[FinalRun]:
        return [one for one in self.runs(self._chosen()) if self.job(one).finished]

    def _chosen(self) -> list[Trial]:
        """Return the finalists, which the first process that gets here decides for all."""
        with self.record.alone():
            trials = self.record.trials()
            numbers: Any = self.record.noted(FINALISTS)
            if numbers is None:
                numbers = [trial.number for trial in finalists(trials, self.space)]
                self.record.note(FINALISTS, numbers)
        return [trials[number] for number in numbers]

    def job(self, run: FinalRun) -> Job:
        return self.jobs.job(run.name, run.overrides)
