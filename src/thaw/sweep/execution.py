"""A sweep from its jobs to its comparison: what is done stays done, and what fails stops nothing else."""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from thaw.errors import UserError
from thaw.pages.text import printable
from thaw.runs.extras import warn_on_failure
from thaw.runs.ownership import hold, refuse_foreign, release
from thaw.runs.run_folder import run_folder_held
from thaw.runs.shown_commands import option, tensorboard_command
from thaw.runs.stopping import STOPS, Stopped, heard
from thaw.runs.summary import remove_old_results, write_summary
from thaw.sweep.jobs import Job
from thaw.sweep.processes import Process, import_once
from thaw.sweep.progress import Progress

RECORD = "multirun.yaml"


class Stop:
    """Within it, signals that would end the sweep are noted, and passed on to the job at work."""

    received: int | None = None
    process: Process | None = None

    def __enter__(self) -> "Stop":
        self._before = {number: signal.signal(number, self._note) for number in STOPS if heard(number)}
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame) -> None:
        self.received = number
        if self.process:
            self.process.signal(number)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """`folder`, made where it is not there, for this sweep alone."""
    try:
        hold(folder, ".lock", "hydra.sweep.dir")
    except UserError as error:
        refuse(str(error).removesuffix("."))
    try:
        yield
    finally:
        release(folder, ".lock")


def refuse_other_folder(folder: Path) -> None:
    """Raises: UserError: if `folder` holds anything but a sweep."""
    refuse_foreign(folder, _is_sweep, frozenset((".lock",)), "a sweep")


def _is_sweep(folder: Path) -> bool:
    path = folder / RECORD
    return path.is_file() and "thaw_sweeper" in path.read_text(errors="replace")


def run_jobs(jobs: Sequence[Job], task: Callable[[Job, list[str]], None]) -> int | None:
    """Run what is left of `jobs`, one after another, each in a fork; gives back the signal that stopped it, if any."""
    progress = Progress(jobs)
    progress.introduce(jobs[0].folder.parent)
    with Stop() as stop:
        import_once()
        for job in jobs:
            if not job.finished and not stop.received:
                _run_job(job, task, progress, stop)
    return stop.received


def _run_job(job: Job, task: Callable[[Job, list[str]], None], progress: Progress, stop: Stop) -> None:
    arguments = job.arguments
    progress.begins(job)
    try:
        _clear(job)
    except UserError as error:  # it is resumed by itself just now
        progress.ends(job)
        _tell(f"{job.name}: {error}")
        return
    stop.process = Process(lambda: task(job, arguments), job.folder / "console.log")
    while not stop.process.wait(seconds=0.2):
        progress.goes_on(job)
    status, stop.process = stop.process.status, None
    if not job.summary and not stop.received:
        _record_death(job, _cause(status))
    progress.ends(job)
    _tell_failure(job)


def launch_jobs(jobs: Sequence[Job], launch: Callable[[], object]) -> int | None:
    """As `run_jobs`, by a `launch()` that runs all that is left, some at once, and returns when they are done."""
    Progress(jobs).introduce(jobs[0].folder.parent)
    left = [job for job in jobs if not job.finished]
    for job in left:
        try:
            _clear(job)
        except UserError as error:
            refuse(f"{job.name}: {error}".removesuffix("."))
    before = {number: signal.signal(number, _end) for number in STOPS if heard(number)}
    if signal.SIGINT in before:  # which launchers expect as Python has it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if left:
            launch()
    except KeyboardInterrupt:
        return signal.SIGINT
    except SystemExit as stop:
        return stop.code - 128 if isinstance(stop, Stopped) else signal.SIGTERM
    except Exception as error:  # of processes that died, of which launchers tell each in its own way
        _tell(f"{type(error).__name__}: {' '.join(str(error).split())}")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for job in left:
        if not job.summary:
            _record_death(job, "died before it could say why")
        _tell_failure(job)
    return None


def _end(number: int, frame) -> NoReturn:
    raise Stopped(number)


def _clear(job: Job) -> None:
    """Remove what an earlier attempt has left, unless it goes on from there.

    Raises:
        UserError: if another process trains there.

    """
    with run_folder_held(job.folder):
        if job.arguments == job.overrides:
            remove_old_results(job.folder)
        (job.folder / "summary.json").unlink(missing_ok=True)


def _cause(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    killed = f"was killed by {signal.Signals(-status).name}"
    return killed + (", as the system does where memory runs out" if -status == signal.SIGKILL else "")


def _record_death(job: Job, cause: str) -> None:
    """Of a process that could not do it itself."""
    error = f"the job's process {cause}; {job.folder / 'console.log'} has its last words"
    write_summary(job.folder, {"status": "failed", "strategy": job.strategy, "error": error})


def finish_sweep(folder: Path, jobs: Sequence[Job], stopped_by: int | None) -> None:
    """Compare what there is; exits with 1 if a job failed and with 128 + the signal if one stopped the sweep."""
    from thaw.comparison.comparison_page import (  # plots and templates, which planning need not load
        table,
        write_comparison,
    )

    compared = None
    with warn_on_failure(f"the comparison in {folder}"):  # python scripts/compare.py makes it again
        compared = write_comparison(folder, [job.folder for job in jobs])
    if compared:
        print(f"\n{table(compared)}\n\nreport   {folder / 'report.html'}\ncurves   {tensorboard_command(folder)}")
    failed = [job.name for job in jobs if job.summary.get("status") == "failed" or not (job.finished or stopped_by)]
    if failed:
        _tell(f"{len(failed)} of {len(jobs)} jobs failed, which the same command tries again: {', '.join(failed)}.")
    if stopped_by:
        done = f"{sum(job.finished for job in jobs)} of {len(jobs)} jobs done"
        name = signal.Signals(stopped_by).name
        _tell(f"stopped by {name}, {done}; the same command with {option('hydra.sweep.dir', folder)} goes on.")
        raise SystemExit(128 + stopped_by)
    if failed:
        raise SystemExit(1)


def refuse(sentence: str) -> None:
    _tell(f"{sentence}.")
    raise SystemExit(2)


def _tell_failure(job: Job) -> None:
    if job.summary.get("status") == "failed":
        _tell(f"{job.name}: {job.summary['error']}")


def _tell(sentence: str) -> None:
    print(f"error: {printable(sentence)}", file=sys.stderr)
