"""What a search prints while it runs: a line per ended trial, and a line about the running one."""

import shutil
import sys
import time
from collections.abc import Sequence
from typing import TextIO

from thaw.pages.text import duration, shown
from thaw.sweep.jobs import Job
from thaw.sweep.search.final_stage import FINAL, MODEL
from thaw.sweep.search.search_loop import EXHAUSTED, Budget, RunResult, best_trial
from thaw.sweep.search.search_results import trial_name
from thaw.sweep.search.trial_jobs import epoch_metrics
from thaw.sweep.search.trial_record import Trial, TrialRecord

_SECONDS_PER_LINE = 30  # where no terminal shows a line that is updated in place
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
        if self._in_place or now - self._line >= _SECONDS_PER_LINE:
            self._line = now
            epochs = epoch_metrics(job)
            seen = (
                f"epoch {len(epochs)}/{job.epochs} · val/acc so far {max(epochs)[0]:.4f}" if epochs else "no epoch yet"
            )
            self._print(f"{_shown_name(job.name)} · {seen} · {self._left()}", end="" if self._in_place else "\n")

    def ended(self, trials: Sequence[Trial]) -> None:
        """Print a line for each trial that has ended and has none yet."""
        new = [trial for trial in trials if not trial.open and trial.number not in self._printed]
        self._printed |= {trial.number for trial in new}
        for trial in new:
            if trial.reason == EXHAUSTED:
                self._print("nothing new is left to try")
                continue
            best = best_trial(trials)
            accuracy = "failed" if trial.accuracy is None else f"val/acc {trial.accuracy:.4f}"
            early = f" · ended early, {trial.reason}" if trial.state.name == "PRUNED" else ""
            said = f" · best {best.accuracy:.4f} (trial {best.number})" if best and best.accuracy is not None else ""
            failed = f": {trial.reason}" if trial.accuracy is None and trial.reason else ""
            name = f"trial {trial.number} · {shown(trial_name(trial), 110)}"
            self._print(f"{name} · {accuracy}{failed}{early}{said} · {self._left()}")

    def final(self, name: str, result: RunResult) -> None:
        """Print the end of a run of the last stage; its accuracy on unseen images stays hidden until all have run."""
        how = result.error or result.stopped or f"took {duration(result.seconds)}"
        self._print(f"{_shown_name(name)} · {how} · {self._left()}")

    def _left(self) -> str:
        return f"{duration(max(0.0, self._budget.left()))} left"

    def _print(self, line: str, end: str = "\n") -> None:
        if self._in_place:
            line = "\r\033[K" + (line if end else line[: shutil.get_terminal_size().columns - 1])
        self._stream.write(line + end)
        self._stream.flush()


def _shown_name(name: str) -> str:
    """Return a run in words: `trial 7 · fine_tune` for `trials/007-fine_tune`."""
    stage, _, rest = name.partition("/")
    number, strategy, *seed = rest.split("-")
    shown_stage = {FINAL: "last stage, trial", MODEL: "final model, trial"}.get(stage, "trial")
    return f"{shown_stage} {int(number)} · {strategy}" + (f" · seed {seed[0]}" if seed and stage == FINAL else "")
