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
from thaw.runs.run_folder import run_folder_held
from thaw.runs.shown_commands import option, tensorboard_command
from thaw.runs.stopping import STOPS, Stopped, is_not_ignored
from thaw.runs.streams import print_error, refuse
from thaw.runs.summary import remove_old_results, write_summary
from thaw.sweep.jobs import Job
from thaw.sweep.processes import Process, import_once
from thaw.sweep.progress import Progress

_GRACE = 20  # seconds that a stopped job has to end


class SignalRelay:
    """Context manager: a stop signal only sets `received`, and is passed on to the running job's `process`."""

    received: int | None = None
    process: Process | None = None

    def __enter__(self) -> "SignalRelay":
        self._before = {number: signal.signal(number, self._note) for number in STOPS if is_not_ignored(number)}
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


def run_jobs(jobs: Sequence[Job], task: Callable[[Job, list[str]], None]) -> int | None:
    """Run the unfinished jobs one after another, each in a fork; return the signal that stopped them, or None."""
    progress = Progress(jobs)
    progress.print_jobs(jobs[0].folder.parent)
    with SignalRelay() as stop:
        import_once()
        for job in jobs:
            if not job.finished and not stop.received:
                _run_job(job, task, progress, stop)
    return stop.received


def _run_job(job: Job, task: Callable[[Job, list[str]], None], progress: Progress, stop: SignalRelay) -> None:
    progress.job_starts(job)
    try:
        run_fork(job, task, stop, lambda: progress.update(job))
    except UserError as error:  # this job was resumed separately and is still running
        progress.job_ends(job)
        print_error(f"{job.name}: {error}")
        return
    progress.job_ends(job)
    _print_failure(job)


def run_fork(
    job: Job, task: Callable[[Job, list[str]], None], stop: SignalRelay, look: Callable[[], str | None]
) -> str | None:
    """Run or resume a job in a fork; `look` is called while it runs, and returns a reason to stop it, or None.

    A job that dies without a summary gets one, unless it was stopped.

    Returns:
        the reason for which it was stopped, or None.

    Raises:
        UserError: if another process trains in the job's folder.

    """
    arguments, reason = job.arguments, None
    _clear(job)
    stop.process = process = Process(lambda: task(job, arguments), job.folder / run_files.CONSOLE)
    while not process.wait(seconds=0.2):
        if not reason and (reason := look()):
            process.stop(_GRACE)
    status, stop.process = process.status, None
    if not job.summary and not reason and not stop.received:
        _record_death(job, _cause(status))
    return reason


def launch_jobs(jobs: Sequence[Job], launch: Callable[[], object]) -> int | None:
    """Run the unfinished jobs with `launch()`, several at once; return the signal that stopped the sweep, or None."""
    Progress(jobs).print_jobs(jobs[0].folder.parent)
    left = [job for job in jobs if not job.finished]
    for job in left:
        try:
            _clear(job)
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
            _record_death(job, "died for an unknown reason")
        _print_failure(job)
    return None


def _end(number: int, frame) -> NoReturn:
    raise Stopped(number)


def _clear(job: Job) -> None:
    """Remove the files of an earlier attempt, unless the job resumes this attempt.

    Raises:
        UserError: if another process trains in the job's folder.

    """
    with run_folder_held(job.folder):
        if not job.resumes:
            remove_old_results(job.folder)
        (job.folder / run_files.SUMMARY).unlink(missing_ok=True)


def _cause(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    killed = f"was killed by {signal.Signals(-status).name}"
    return killed + (", probably because memory ran out" if -status == signal.SIGKILL else "")


def _record_death(job: Job, cause: str) -> None:
    """Write the summary of a job whose process could not write it."""
    error = f"the job's process {cause}; {job.folder / run_files.CONSOLE} has its last output"
    write_summary(job.folder, {"status": "failed", "strategy": job.strategy, "error": error})


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
