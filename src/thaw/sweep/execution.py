"""Run a sweep, from its jobs to the comparison. Finished jobs are not repeated; a failed job does not stop others."""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from thaw.errors import UserError
from thaw.pages.text import amount
from thaw.runs import run_files
from thaw.runs.optional_output import naming_page, warn_on_failure
from thaw.runs.ownership import hold, refuse_foreign, release
from thaw.runs.shown_commands import option, tensorboard_command
from thaw.runs.stopping import STOPS, Stopped, is_not_ignored
from thaw.runs.streams import print_error, refuse
from thaw.sweep.forks import Fork, SignalRelay, clear_attempt, record_death
from thaw.sweep.jobs import Job
from thaw.sweep.processes import import_once
from thaw.sweep.progress import Progress
from thaw.sweep.sharing import shared_features


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make `folder` if it does not exist, and keep other sweeps out of it inside the block."""
    try:
        hold(folder, run_files.SWEEP_LOCK, "hydra.sweep.dir")
    except UserError as error:
        refuse(str(error))
    try:
        yield
    finally:
        release(folder, run_files.SWEEP_LOCK)


def refuse_other_folder(folder: Path) -> None:
    """Refuse a folder that holds anything but a sweep.

    Raises:
        UserError: if the folder holds anything else; the message names some of it.

    """
    refuse_foreign(folder, _is_sweep, frozenset((run_files.SWEEP_LOCK,)), "a sweep")


def _is_sweep(folder: Path) -> bool:
    path = folder / run_files.SWEEP_CONFIG
    return path.is_file() and "thaw_sweeper" in path.read_text(errors="replace")


def run_jobs(jobs: Sequence[Job], task: Callable[[Job, list[str]], None], at_once: int = 1) -> int | None:
    """Run the unfinished jobs, each in a fork; return the signal that stopped them, or None.

    One runs after another, but up to `at_once` jobs that can share a GPU (`thaw.sweep.sharing`) run at the same time.
    """
    progress = Progress(jobs)
    progress.print_jobs(jobs[0].folder.parent)
    with SignalRelay() as stop:
        import_once()
        running, features = _Running(progress, stop), None
        for job in jobs:
            if job.finished:
                continue
            needed = shared_features(job) if at_once > 1 else None
            running.wait(fewer_than=at_once if needed and needed == features else 1)
            if stop.received:
                break
            running.start(job, task, at_once if needed else 1)
            features = needed
        running.wait(fewer_than=1)
    return stop.received


class _Running:
    """The jobs that run now."""

    def __init__(self, progress: Progress, stop: SignalRelay):
        self._progress, self._stop = progress, stop
        self._forks: list[Fork] = []

    def start(self, job: Job, task: Callable[[Job, list[str]], None], at_once: int) -> None:
        self._progress.job_starts(job)
        try:
            self._forks.append(Fork(job, task, self._stop, at_once))
        except UserError as error:  # this job was resumed separately and is still running
            self._progress.job_ends(job)
            print_error(f"{job.name}: {error}")

    def wait(self, fewer_than: int) -> None:
        """Wait until fewer than `fewer_than` jobs run."""
        while len(self._forks) >= fewer_than:
            for fork in [fork for fork in self._forks if fork.ended(seconds=0.2 / len(self._forks))]:
                self._forks.remove(fork)
                self._progress.job_ends(fork.job)
                _print_failure(fork.job)
            if self._forks:
                self._progress.update(self._forks[0].job)


def launch_jobs(jobs: Sequence[Job], launch: Callable[[], object]) -> int | None:
    """Run the unfinished jobs with `launch()`, several at once; return the signal that stopped the sweep, or None."""
    Progress(jobs).print_jobs(jobs[0].folder.parent)
    left = [job for job in jobs if not job.finished]
    for job in left:
        try:
            clear_attempt(job)
        except UserError as error:
            refuse(f"{job.name}: {error}")
    before = {number: signal.signal(number, _end) for number in STOPS if is_not_ignored(number)}
    if signal.SIGINT in before:  # launchers expect Python's own handler
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if left:
            launch()
    except KeyboardInterrupt:
        return signal.SIGINT
    except SystemExit as stop:
        return int(stop.code or 0) - 128 if isinstance(stop, Stopped) else signal.SIGTERM
    except Exception as error:  # launchers report a dead process with errors of various kinds
        print_error(f"{type(error).__name__}: {' '.join(str(error).split())}")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for job in left:
        if not job.summary:
            record_death(job, "died for an unknown reason")
        _print_failure(job)
    return None


def _end(number: int, frame) -> NoReturn:
    raise Stopped(number)


def finish_sweep(folder: Path, jobs: Sequence[Job], stopped_by: int | None, shortlists: bool = False) -> None:
    """Compare the finished jobs; with `shortlists`, also write a shortlist of their backbones.

    Exit with 1 if a job failed, or with 128 + the signal if a signal stopped the sweep.
    """
    # Imported here, because planning a sweep does not need plots and templates.
    from thaw.comparison.comparison_page import write_comparison

    compared = None
    with warn_on_failure(f"the comparison in {folder}"):  # python scripts/compare.py can repeat it
        compared = write_comparison(folder, [job.folder for job in jobs])
    if compared:
        _print_results(folder, compared, shortlists)
    failed = [job.name for job in jobs if job.summary.get("status") == "failed" or not (job.finished or stopped_by)]
    if failed:
        count = f"{len(failed)} of {amount(len(jobs), 'job')}"
        print_error(f"{count} failed: {', '.join(failed)}. The same command tries them again.")
    if stopped_by:
        done = f"{sum(job.finished for job in jobs)} of {amount(len(jobs), 'job')} done"
        name = signal.Signals(stopped_by).name
        print_error(f"stopped by {name}, {done}. To resume, add {option('hydra.sweep.dir', folder)} to the command.")
        raise SystemExit(128 + stopped_by)
    if failed:
        raise SystemExit(1)


def _print_results(folder: Path, compared: dict, shortlists: bool) -> None:
    from thaw.comparison.comparison_page import table
    from thaw.sweep.shortlist import PAGE, write_shortlist

    shown, page = table(compared), run_files.REPORT
    if shortlists and compared["candidates"]:
        with warn_on_failure(f"the shortlist in {folder}"):
            shown, page = write_shortlist(folder, compared), PAGE
    named = naming_page("report", folder / page) or "\n"
    print(f"\n{shown}{named}\ncurves   {tensorboard_command(folder)}")


def _print_failure(job: Job) -> None:
    if job.summary.get("status") == "failed":
        print_error(f"{job.name}: {job.summary['error']}")
