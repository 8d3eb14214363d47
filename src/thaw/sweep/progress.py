"""Progress of a sweep, read from the folders of its runs."""

import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import TextIO

from thaw.pages.metric_names import metric_of
from thaw.pages.text import amount, duration
from thaw.sweep.jobs import Job

SECONDS_PER_LINE = 30  # between status lines, if the output is not a terminal


def write_line(stream: TextIO, line: str, end: str = "\n") -> None:
    """Write a line; on a terminal it replaces a line that was written with `end=""`, which the next one replaces."""
    if stream.isatty():
        line = "\r\033[K" + (line if end else line[: shutil.get_terminal_size().columns - 1])
    stream.write(line + end)
    stream.flush()


class Progress:
    """Prints a line when a job ends, and the running job's state: updated in place on a terminal, else every 30 s."""

    def __init__(self, jobs: Sequence[Job], stream: TextIO | None = None):
        self._stream = stream or sys.stdout
        self._in_place = self._stream.isatty()
        self._jobs, self._seconds = jobs, defaultdict(list)
        self._left = [job for job in jobs if not job.finished]
        self._printed = time.monotonic()
        self._starts: dict[int, float] = {}  # of the running jobs, by their number
        for job in jobs:
            if job.finished:
                self._seconds[job.strategy].append(job.summary["seconds"]["total"])

    def print_jobs(self, folder: Path) -> None:
        before = len(self._jobs) - len(self._left)
        line = f"{amount(len(self._jobs), 'job')} in {folder}" + (f", {before} of them done before" if before else "")
        print(line, file=self._stream, flush=True)

    def job_starts(self, job: Job) -> None:
        self._starts[job.number] = self._printed = time.monotonic()
        if self._in_place:
            self.update(job)

    def update(self, job: Job) -> None:
        now = time.monotonic()
        if not self._in_place and now - self._printed < SECONDS_PER_LINE:
            return
        self._printed = now
        metric, reached = job.metric, [value for value, _ in job.metrics]
        parts = [f"epoch {len(reached)}/{job.epochs}", f"{metric} so far {max(reached):.4f}"] if reached else []
        self._print(job, *parts, self._time_left(job, len(reached)), end="" if self._in_place else "\n")

    def job_ends(self, job: Job) -> None:
        summary, seconds = job.summary, time.monotonic() - self._starts.pop(job.number)
        self._left.remove(job)
        if summary.get("status") == "finished":
            self._seconds[job.strategy].append(summary["seconds"]["total"])
            metric = metric_of(summary)
            parts = [f"val/{metric} {summary['val'][metric]:.4f}", duration(seconds)]
        else:
            parts = [summary.get("status", "stopped")]
        self._print(job, *parts, self._time_left())

    def _print(self, job: Job, *parts: str, end: str = "\n") -> None:
        line = " · ".join([f"job {job.number}/{len(self._jobs)}", job.name, *filter(None, parts)])
        write_line(self._stream, line, end)

    def _time_left(self, current: Job | None = None, epochs: int = 0) -> str:
        """Estimate the time left from jobs of the same strategy, else all jobs, else epochs of the first job."""
        elapsed = time.monotonic() - self._starts[current.number] if current else 0.0
        taken = [seconds for of_strategy in self._seconds.values() for seconds in of_strategy]
        if not taken and epochs and current:
            taken = [elapsed * current.epochs / epochs]
        if not taken or not self._left:
            return ""
        expected = {job.number: mean(self._seconds.get(job.strategy) or taken) for job in self._left}
        if current:
            expected[current.number] -= elapsed
            if expected[current.number] <= 0:  # this job takes longer than the earlier jobs
                if not epochs:
                    return ""
                expected[current.number] = elapsed * (current.epochs / epochs - 1)
        return f"{duration(sum(expected.values()) / max(1, len(self._starts)))} left"
