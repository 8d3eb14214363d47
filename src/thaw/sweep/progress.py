"""How a sweep comes along, as far as its run folders tell."""

import csv
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from thaw.pages.duration import duration
from thaw.sweep.jobs import Job

_A_LINE_EVERY = 30  # seconds, where no terminal shows a line that moves


class Progress:
    """Says a line when a job ends; in between one that moves on a terminal, or one now and then in a file."""

    def __init__(self, jobs: Sequence[Job], stream=None):
        self._stream = stream or sys.stdout
        self._moves = self._stream.isatty()
        self._jobs, self._seconds = jobs, defaultdict(list)
        self._left = [job for job in jobs if not job.finished]
        for job in jobs:
            if job.finished:
                self._seconds[job.strategy].append(job.summary["seconds"]["total"])

    def introduce(self, folder: Path) -> None:
        before = len(self._jobs) - len(self._left)
        told = f"{len(self._jobs)} jobs in {folder}" + (f", {before} of them done before" if before else "")
        print(told, file=self._stream, flush=True)

    def begins(self, job: Job) -> None:
        self._start = self._said = time.monotonic()
        if self._moves:
            self.goes_on(job)

    def goes_on(self, job: Job) -> None:
        now = time.monotonic()
        if not self._moves and now - self._said < _A_LINE_EVERY:
            return
        self._said = now
        accuracies = _accuracies(job)
        told = [f"epoch {len(accuracies)}/{job.epochs}", f"val/acc so far {max(accuracies):.4f}"] if accuracies else []
        self._say(job, *told, self._time_left(job, len(accuracies)), end="" if self._moves else "\n")

    def ends(self, job: Job) -> None:
        summary = job.summary
        self._left.remove(job)
        if summary.get("status") == "finished":
            self._seconds[job.strategy].append(summary["seconds"]["total"])
            told = f"val/acc {summary['val']['acc']:.4f}", duration(time.monotonic() - self._start)
        else:
            told = (summary.get("status", "stopped"),)
        self._say(job, *told, self._time_left())

    def _say(self, job: Job, *told: str, end: str = "\n") -> None:
        line = " · ".join([f"job {job.number}/{len(self._jobs)}", job.name, *filter(None, told)])
        if self._moves:
            line = "\r\033[K" + (line if end else line[: shutil.get_terminal_size().columns - 1])
        self._stream.write(line + end)
        self._stream.flush()

    def _time_left(self, current: Job | None = None, epochs: int = 0) -> str:
        """By what the jobs of the same strategy took, else all jobs, else the epochs of the first."""
        elapsed = time.monotonic() - self._start
        taken = [seconds for of_one in self._seconds.values() for seconds in of_one]
        if not taken and epochs:
            taken = [elapsed * current.epochs / epochs]
        if not taken or not self._left:
            return ""
        expected = {job.number: mean(self._seconds.get(job.strategy) or taken) for job in self._left}
        if current:
            expected[current.number] = max(expected[current.number] - elapsed, 0)
        return f"{duration(sum(expected.values()))} left"


def _accuracies(job: Job) -> list[float]:
    """Of validation, by epoch; what an earlier run has left in the folder is not told apart before training starts."""
    path = job.folder / "metrics.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        return [float(row["val/acc"]) for row in rows if row["seconds"]]  # the last one may be half written
