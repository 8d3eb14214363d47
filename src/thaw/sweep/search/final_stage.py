"""The last stage: the best configurations and the strategies' defaults run again, on fresh seeds and unseen images.

The winner is chosen without a look at these images: by the runs on fresh seeds, on the images that the search chooses
by. Its accuracy on the unseen images is therefore unbiased, unlike the best value that the search found.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from thaw.runs import run_files
from thaw.runs.summary import has_finished, read_summary
from thaw.sweep.jobs import Job
from thaw.sweep.search.rungs import Curve, epoch_rank
from thaw.sweep.search.search_loop import OUT_OF_TIME, Budget, RunResult, best_trial
from thaw.sweep.search.search_space import BACKBONE, STRATEGY, Space
from thaw.sweep.search.trial_jobs import Jobs
from thaw.sweep.search.trial_record import FINALISTS, WINNER, Trial, TrialRecord, finished

FINAL, MODEL = "final", "model"  # folders
_BEST = 3  # trials that run again
_SEEDS = 3  # fresh seeds
_LARGEST = 0.45  # share of the budget that may be kept for the last stage
_LARGEST_FOR_WINNER = 0.6  # the same, if the winner alone needs it
_LONGER = 1.3  # a run of the last stage takes longer than its trial: it also predicts the test images
_PAGE = 6.0  # seconds to compare and to write the pages
_WAIT = 0.2  # seconds between two looks at what other processes do
_MORE_IMAGES = 1.25  # the final model also trains on the images that the search validated on


def finalists(trials: Sequence[Trial], space: Space) -> list[Trial]:
    """Return the trials to run again: the winner, the best default, the next best trials, the other defaults.

    Defaults are the strategies with their own options on the winner's backbone.
    """
    winner = best_trial(trials)
    if winner is None:
        return []
    ranked = sorted((t for t in finished(trials) if t.complete), key=lambda t: (t.score, -t.number), reverse=True)
    defaults = [trial for trial in ranked if _is_default(trial, space, winner.params[BACKBONE])]
    chosen = [winner, *defaults[:1], *ranked[:_BEST], *defaults]
    return [trials[number] for number in dict.fromkeys(trial.number for trial in chosen)]


def _is_default(trial: Trial, space: Space, backbone: str) -> bool:
    """Return whether a trial tries a strategy's default options on `backbone`."""
    defaults = space.overrides({BACKBONE: backbone, STRATEGY: trial.params[STRATEGY]})
    return trial.params[BACKBONE] == backbone and trial.overrides == defaults


@dataclass(frozen=True, eq=False)
class FinalRun:
    """A run of the last stage, which repeats `trial`; `stage` is FINAL on a fresh seed, or MODEL."""

    stage: str
    trial: Trial
    seed: int
    overrides: list[str]
    seconds: float  # expected

    @property
    def folder(self) -> str:
        """Return the run's folder, relative to the search's folder."""
        seed = f"-{self.seed}" if self.stage == FINAL else ""
        return f"{self.stage}/{self.trial.number:03d}-{self.trial.params[STRATEGY]}{seed}"

    @property
    def name(self) -> str:
        trial = f"trial {self.trial.number} · {self.trial.params[STRATEGY]}"
        return f"last stage, {trial} · seed {self.seed}" if self.stage == FINAL else f"final model, {trial}"


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
    sleep: Callable[[float], None] = time.sleep

    def reserve(self, trials: Sequence[Trial], budget: float) -> float:
        """Return the seconds to keep for the last stage: at most `_LARGEST` of the budget, or what the winner needs."""
        chosen = finalists(trials, self.space)
        runs = [run for run in self.runs(chosen) if not self._has_ended(run)]  # some had, before a larger budget
        if not runs:
            return 0.0
        wanted = _PAGE + sum(run.seconds for run in runs) + self._model_seconds(runs)
        return max(min(wanted, _LARGEST * budget), min(_PAGE + runs[0].seconds, _LARGEST_FOR_WINNER * budget))

    def runs(self, chosen: Sequence[Trial]) -> list[FinalRun]:
        """Return the runs on fresh seeds, the most important first."""
        return [
            FinalRun(FINAL, trial, seed, [*trial.overrides, f"seed={seed}", *self.unseen], _expected_seconds(trial))
            for seed in range(self.seed + 1, self.seed + 1 + _SEEDS)
            for trial in chosen
        ]

    def run(self, budget: Budget, report: Callable[[FinalRun, RunResult], None]) -> None:
        """Run what fits into the time that is left; the final model comes last, and its time is kept for it."""
        runs = self.runs(self._chosen())
        self._run_all(runs[:1], budget, lambda run: 0.0, report)  # a measured winner is worth more than a final model
        self._run_all(runs, budget, lambda run: self._model_seconds([run, *self._ended(runs)]), report)
        while any(self.record.is_claimed(_claim(run)) for run in runs):  # their results decide the winner
            self.sleep(_WAIT)
        self._run_all(self.model(), budget, lambda run: 0.0, report)

    def _run_all(
        self,
        runs: Sequence[FinalRun],
        budget: Budget,
        kept: Callable[[FinalRun], float],
        report: Callable[[FinalRun, RunResult], None],
    ) -> None:
        """Run what fits into the time that is left, without the seconds to keep after each run."""
        failed, slower = set(), 1.0
        while left := [run for run in runs if run not in failed and not self._has_ended(run)]:
            fitting = [run for run in left if budget.left() >= _PAGE + slower * (run.seconds + kept(run))]
            if not fitting:
                return
            taken = self._take(fitting)
            if taken is None:
                self.sleep(_WAIT)
                continue
            run, give_back = taken
            try:
                result = self.jobs.run(self.job(run), self._watch(budget))
            finally:
                give_back()
            report(run, result)
            if not result.stopped:  # nothing is left to resume
                (self.jobs.folder / run.folder / run_files.LAST).unlink(missing_ok=True)
            if result.error:
                failed.add(run)
            else:
                slower = max(1.0, result.seconds / run.seconds)

    def _ended(self, runs: Sequence[FinalRun]) -> list[FinalRun]:
        return [run for run in runs if self._has_ended(run)]

    def _has_ended(self, run: FinalRun) -> bool:
        return has_finished(self.jobs.folder / run.folder)

    def _watch(self, budget: Budget) -> Callable[[Curve], str | None]:
        return lambda curve: OUT_OF_TIME if budget.left() < _PAGE / 2 else None

    def _take(self, runs: Sequence[FinalRun]) -> tuple[FinalRun, Callable[[], None]] | None:
        """Return the first run that no other process has, with the function that gives it back."""
        for run in runs:
            if give_back := self.record.claim(_claim(run)):
                return run, give_back
        return None

    def _model_seconds(self, runs: Sequence[FinalRun]) -> float:
        """Return the expected seconds of the final model, if any of these runs may win."""
        return _MORE_IMAGES * max((run.seconds for run in runs), default=0.0) if self.unseen else 0.0

    def model(self) -> list[FinalRun]:
        """Return the run of the final model: the winner, trained on all images that are not test images.

        Without `unseen` the winner's own run is such a model.
        """
        winner = self.winner()
        if winner is None or not self.unseen:
            return []
        overrides = [*winner.overrides, f"seed={self.seed + 1}"]
        return [FinalRun(MODEL, winner, self.seed + 1, overrides, _MORE_IMAGES * _expected_seconds(winner))]

    def winner(self) -> Trial | None:
        """Return the winner, which the first process that asks decides for all; None without a finalist.

        It is the finalist whose runs on fresh seeds are the best on the images that the search chooses by. Without such
        runs it is the best trial. Test images play no part in it.
        """
        chosen = self._chosen()
        with self.record.alone():
            number = self.record.noted(WINNER)
            if number is None and chosen:
                number = max(chosen, key=self._rank).number
                self.record.note(WINNER, number)
        return next((trial for trial in chosen if trial.number == number), None)

    def best_runs(self, winner: Trial) -> list[FinalRun]:
        """Return the finished runs with the winner's backbone, the best first."""
        alike = [trial for trial in self._chosen() if trial.params[BACKBONE] == winner.params[BACKBONE]]
        ranks = {run: epoch_rank(self._accuracy_and_loss(run)) for run in self._finished(alike)}
        return sorted(ranks, key=lambda run: ranks[run], reverse=True)

    def _rank(self, trial: Trial) -> tuple[float, ...]:
        own = [self._accuracy_and_loss(run) for run in self._finished([trial])]
        return epoch_rank((mean(acc for acc, _ in own), mean(loss for _, loss in own))) if own else (-1.0,)

    def _accuracy_and_loss(self, run: FinalRun) -> tuple[float, float]:
        val = read_summary(self.jobs.folder / run.folder)["val"]
        return val["acc"], val["loss"]

    def finished(self) -> list[FinalRun]:
        """Return the finished runs of the last stage."""
        chosen = self._chosen()
        return self._ended([*self.runs(chosen), *self.model()])

    def _finished(self, chosen: Sequence[Trial]) -> list[FinalRun]:
        return self._ended(self.runs(chosen))

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
        return self.jobs.job(run.folder, run.name, run.overrides)


def _expected_seconds(trial: Trial) -> float:
    return _LONGER * trial.seconds / max(1, len(trial.curves))


def _claim(run: FinalRun) -> str:
    return run.folder.replace("/", "-")
