"""The search: processes that take trials, run them, and end those that fall behind."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean, median
from typing import Any, Protocol

from optuna.trial import TrialState

from thaw.sweep.search.proposals import Proposals, is_ready, known_before
from thaw.sweep.search.rungs import Curve, best_epoch, clearly_worse, falls_behind
from thaw.sweep.search.search_space import BACKBONE, STRATEGY
from thaw.sweep.search.trial_record import Trial, TrialRecord, finished

BEHIND = "behind other trials"
OUT_OF_TIME = "no time left"
EXHAUSTED = "nothing new is left to try"
_FAILURES = 3  # failed trials, without another, after which a search ends
_WAIT = 0.2  # seconds between two looks at what other processes do


@dataclass(frozen=True)
class RunResult:
    """How one run ended.

    Attributes:
        curve: validation accuracy and loss of each epoch.
        stopped: why it was stopped before its end.
        error: why it failed.

    """

    curve: Curve = ()
    seconds: float = 0.0
    stopped: str | None = None
    error: str | None = None


class Runner(Protocol):
    """Where runs happen: in forks of this process, or in a simulation."""

    def epochs(self, trial: Trial) -> int:
        """Return the number of epochs of each of the trial's runs."""
        ...

    def run(self, trial: Trial, repetition: int, watch: Callable[[Curve], str | None]) -> RunResult:
        """Run, or resume, one repetition of a trial.

        `watch` gets the epochs so far, and returns why the run should stop, or None.
        """
        ...

    def trial_ends(self, trial: Trial, best: bool) -> None:
        """Clean up after a trial."""
        ...


class Budget(Protocol):
    """The time of the search; `thaw.sweep.search.time_budget.TimeBudget` is one."""

    def used(self) -> float: ...

    def left(self) -> float: ...


@dataclass(frozen=True)
class Search:
    """One process's part of a search.

    Args:
        most: the number of trials after which the search ends, or None.
        reserve: returns, for the trials so far, the seconds to keep for the last stage.
        report: is called with each trial that has ended, and with all trials.
        sleep: waits for other processes.

    """

    record: TrialRecord
    proposals: Proposals
    runner: Runner
    budget: Budget
    most: int | None
    reserve: Callable[[Sequence[Trial]], float]
    report: Callable[[Trial, Sequence[Trial]], None] = lambda trial, trials: None
    sleep: Callable[[float], None] = time.sleep

    def search(self) -> None:
        """Run trials until the time, the trials or the space are used up, then wait for other processes' trials."""
        while self._goes_on():
            taken = self._take()
            if taken is None:
                self.sleep(_WAIT)
                continue
            trial, give_back = taken
            try:
                if not self._try(trial):
                    break
            finally:
                give_back()
        while self._others_run():
            self.sleep(_WAIT)

    def _goes_on(self) -> bool:
        trials = self.record.trials()
        done = [trial for trial in trials if not trial.open]
        used_up = self.most is not None and len(done) >= self.most
        enough = max(_FAILURES, len(self.proposals.space.backbones))
        used_up = used_up or (len(done) >= enough and not finished(done))  # more trials would fail, too
        used_up = used_up or (any(trial.reason == EXHAUSTED for trial in done) and len(done) == len(trials))
        return not used_up and self._time_for_search(trials) > 0

    def _time_for_search(self, trials: Sequence[Trial]) -> float:
        return self.budget.left() - self.reserve(trials)

    def _take(self) -> tuple[Trial, Callable[[], None]] | None:
        """Return a trial that this process now has, with the function that gives it back; None if it must wait."""
        with self.record.alone():
            trials = self.record.trials()
            for trial in [trial for trial in trials if trial.open]:
                if give_back := self.record.claim(trial.number):
                    if is_ready(trial.number, trials, self.proposals.space):
                        return self._chosen(trial, trials, give_back)
                    give_back()
                    return None
            exhausted = any(trial.reason == EXHAUSTED for trial in trials)
            if exhausted or (self.most is not None and len(trials) >= self.most):
                return None
            self.record.add()
            trials = self.record.trials()
            give_back = self.record.claim(trials[-1].number)
            assert give_back, "nobody else knows this trial yet"
            if is_ready(trials[-1].number, trials, self.proposals.space):
                return self._chosen(trials[-1], trials, give_back)
            give_back()
        return None

    def _chosen(
        self, trial: Trial, trials: Sequence[Trial], give_back: Callable[[], None]
    ) -> tuple[Trial, Callable[[], None]] | None:
        if not trial.overrides:
            params = self.proposals.params(trial.number, trials)
            if params is None:
                self.record.finish(trial.number, TrialState.FAIL, reason=EXHAUSTED)
                give_back()
                return None
            overrides = self.proposals.overrides(params)
            self.record.choose(trial.number, params, self.proposals.distributions, overrides)
            trial = self.record.trials()[trial.number]
        return trial, give_back

    def _try(self, trial: Trial) -> bool:
        """Run a trial; return False if there is no time for it. It stays open: a larger budget continues it."""
        trials = self.record.trials()
        epochs, repetitions = self.runner.epochs(trial), len(self.proposals.space.instances)
        expected = expected_seconds(trial.params, epochs * repetitions, trials)
        if expected is not None and expected > self._time_for_search(trials):
            return False
        known, results = finished(known_before(trial.number, trials)), []
        for repetition in range(repetitions):
            others = [(one.curves[repetition], one.epochs) for one in known if len(one.curves) > repetition]
            result = self.runner.run(trial, repetition, self._watch(epochs, others))
            if result.stopped == OUT_OF_TIME:
                return False
            behind = falls_behind(result.curve, epochs, others)
            results.append(replace(result, curve=result.curve[:behind]))
            facts = {"epochs": epochs, **_facts(results)}
            if result.error:
                self._end(trial, TrialState.FAIL, {**facts, "reason": result.error})
                return True
            if behind or self._is_worse(results, known, repetitions):
                self._end(trial, TrialState.PRUNED, {**facts, "reason": BEHIND})
                return True
        self._end(trial, TrialState.COMPLETE, facts)
        return True

    def _watch(self, epochs: int, others: Sequence[tuple[Curve, int]]) -> Callable[[Curve], str | None]:
        reserve = self.reserve(self.record.trials())

        def watch(curve: Curve) -> str | None:
            if self.budget.left() <= reserve:
                return OUT_OF_TIME
            return BEHIND if falls_behind(curve, epochs, others) else None  # a fast run may end before it is stopped

        return watch

    def _is_worse(self, results: Sequence[RunResult], known: Sequence[Trial], repetitions: int) -> bool:
        complete = [trial for trial in known if trial.complete]
        if len(results) == repetitions or not complete:
            return False
        best = max(complete, key=lambda trial: trial.score)
        return clearly_worse(
            [best_epoch(one.curve)[0] for one in results], [best_epoch(curve)[0] for curve in best.curves]
        )

    def _end(self, trial: Trial, state: TrialState, facts: Mapping[str, Any]) -> None:
        self.record.finish(trial.number, state, ended=self.budget.used(), **facts)
        with self.record.alone():
            trials = self.record.trials()
            ended = trials[trial.number]
            self.runner.trial_ends(ended, best_trial(trials) == ended)
        self.report(ended, trials)

    def _others_run(self) -> bool:
        """Return whether other processes run trials."""
        return any(self.record.is_claimed(trial.number) for trial in self.record.trials() if trial.open)


def _facts(results: Sequence[RunResult]) -> dict[str, Any]:
    seen = [result for result in results if result.curve]
    best = [best_epoch(result.curve) for result in seen]
    return {
        "curves": [list(result.curve) for result in results],
        "accuracy": mean(accuracy for accuracy, _ in best) if best else None,
        "loss": mean(loss for _, loss in best) if best else None,
        "seconds": sum(result.seconds for result in results),
    }


def best_trial(trials: Sequence[Trial]) -> Trial | None:
    """Return the best of the trials that were not ended early; of the others if there is none."""
    ended = finished(trials)
    of = [trial for trial in ended if trial.complete] or ended
    return max(of, key=lambda trial: (trial.score, -trial.number), default=None)


def expected_seconds(params: Mapping[str, Any], epochs: int, trials: Sequence[Trial]) -> float | None:
    """Return the expected duration of a trial, from trials of the same strategy, and backbone if there are any.

    It is None without such trials.
    """
    ran = [trial for trial in finished(trials) if trial.seconds and trial.params.get(STRATEGY) == params.get(STRATEGY)]
    alike = [trial for trial in ran if trial.params.get(BACKBONE) == params.get(BACKBONE)] or ran
    return median(trial.seconds * max(1.0, epochs / _epochs_run(trial)) for trial in alike) if alike else None


def _epochs_run(trial: Trial) -> int:
    return max(1, sum(map(len, trial.curves)))
