"""What a search prints while it runs: a line per ended trial, and a line about the running one."""

import sys
import time
from collections.abc import Sequence
from typing import TextIO

from thaw.pages.text import duration, shown
from thaw.sweep.jobs import Job
from thaw.sweep.progress import SECONDS_PER_LINE, write_line
from thaw.sweep.search.final_stage import FinalRun
from thaw.sweep.search.search_loop import EXHAUSTED, Budget, RunResult, best_trial
from thaw.sweep.search.search_results import trial_name
from thaw.sweep.search.trial_record import Trial, TrialRecord

_SECONDS_PER_LOOK = 1.0


class SearchProgress:
    """Prints the progress of a search, the trials of other processes included."""

    def __init__(self, record: TrialRecord, budget: Budget, stream: TextIO | None = None):
        self._record, self._budget = record, budget
        self._stream = stream or sys.stdout
        self._in_place = self._stream.isatty()
        self._printed = {trial.number for trial in record.trials() if not trial.open}
        self._looked = self._line = time.monotonic()

    def running(self, job: Job) -> None:
        """Show the running job, and the trials that have ended since the last call."""
        now = time.monotonic()
        if now - self._looked < _SECONDS_PER_LOOK:
            return
        self._looked = now
        self.ended(self._record.trials())
        if self._in_place or now - self._line >= SECONDS_PER_LINE:
            self._line = now
            seen, metrics = "no epoch yet", job.metrics
            if metrics:
                seen = f"epoch {len(metrics)}/{job.epochs} · val/acc so far {max(metrics)[0]:.4f}"
            self._print(f"{job.name} · {seen}", end="" if self._in_place else "\n")

    def ended(self, trials: Sequence[Trial]) -> None:
        """Print a line for each trial that has ended and has none yet."""
        new = [trial for trial in trials if not trial.open and trial.number not in self._printed]
        self._printed |= {trial.number for trial in new}
        for trial in new:
            if trial.reason == EXHAUSTED:
                self._print(EXHAUSTED)
                continue
            best = best_trial(trials)
            accuracy = "failed" if trial.accuracy is None else f"val/acc {trial.accuracy:.4f}"
            early = f" · ended early, {trial.reason}" if trial.state.name == "PRUNED" else ""
            said = f" · best {best.accuracy:.4f} (trial {best.number})" if best and best.accuracy is not None else ""
            failed = f": {trial.reason}" if trial.accuracy is None and trial.reason else ""
            name = f"trial {trial.number} · {shown(trial_name(trial), 110)}"
            self._print(f"{name} · {accuracy}{failed}{early}{said}")

    def final(self, run: FinalRun, result: RunResult) -> None:
        """Print the end of a run of the last stage; its accuracy on unseen images stays hidden until all have run."""
        how = result.error or result.stopped or f"took {duration(result.seconds)}"
        self._print(f"{run.name} · {how}")

    def _print(self, text: str, end: str = "\n") -> None:
        write_line(self._stream, f"{text} · {duration(max(0.0, self._budget.left()))} left", end)
