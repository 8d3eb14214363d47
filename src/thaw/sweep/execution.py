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
from thaw.sweep.processes import Process, import_once, share_cores
from thaw.sweep.progress import Progress
from thaw.sweep.sharing import most_at_once, shared_features

_GRACE = 20  # seconds that a stopped job has to end


class SignalRelay:
    """Context manager: a stop signal only sets `received`, and is passed on to all `processes`."""

    received: int | None = None

    def __init__(self):
        self.processes: list[Process] = []

    def __enter__(self) -> "SignalRelay":
        self._before = {number: signal.signal(number, self._note) for number in STOPS if is_not_ignored(number)}
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame) -> None:
        self.received = number
        for process in self.processes:
            process.signal(number)


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
    """Run the unfinished jobs, each in a fork; return the signal that stopped them, or None.

    One runs after another, but jobs that share a GPU (`thaw.sweep.sharing`) run at the same time.
    """
    progress = Progress(jobs)
    progress.print_jobs(jobs[0].folder.parent)
    with SignalRelay() as stop:
        import_once()
        running, most, features = _Running(progress, stop), most_at_once(), None
        for job in jobs:
            if job.finished:
                continue
            needed = shared_features(job) if most > 1 else None
            running.wait(fewer_than=most if needed and needed == features else 1)
            if stop.received:
                break
            running.start(job, task, jobs_at_once=most if needed else 1)
            features = needed
        running.wait(fewer_than=1)
    return stop.received


class _Running:
    """The jobs that run now."""

    def __init__(self, progress: Progress, stop: SignalRelay):
        self._progress, self._stop = progress, stop
        self._forks: list[Fork] = []

    def start(self, job: Job, task: Callable[[Job, list[str]], None], jobs_at_once: int) -> None:
        self._progress.job_starts(job)
        try:
            self._forks.append(Fork(job, task, self._stop, jobs_at_once))
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


class Fork:
    """A fork that runs or resumes a job. A job that dies without a summary gets one, unless it was stopped.

    Raises:
        UserError: from the constructor, if another process trains in the job's folder.

    """

    def __init__(self, job: Job, task: Callable[[Job, list[str]], None], stop: SignalRelay, jobs_at_once: int = 1):
        self.job, self._stop, self._stopped = job, stop, False
        arguments = job.arguments
        _clear(job)

        def run() -> None:
            share_cores(jobs_at_once)
            task(job, arguments)

        self._process = Process(run, job.folder / run_files.CONSOLE)
        stop.processes.append(self._process)

    def ended(self, seconds: float) -> bool:
        """Wait at most `seconds`; return whether the job has ended."""
        if not self._process.wait(seconds):
            return False
        self._stop.processes.remove(self._process)
        status = self._process.status
        if not self.job.summary and not self._stopped and not self._stop.received:
            _record_death(self.job, _cause(status))
        return True

    def stop(self) -> None:
        self._stopped = True
        self._process.stop(_GRACE)


def run_fork(
    job: Job, task: Callable[[Job, list[str]], None], stop: SignalRelay, look: Callable[[], str | None]
) -> str | None:
    """Run or resume a job in a fork; `look` is called while it runs, and returns a reason to stop it, or None.

    Returns:
        the reason for which it was stopped, or None.

    Raises:
        UserError: if another process trains in the job's folder.

    """
    fork, reason = Fork(job, task, stop), None
    while not fork.ended(seconds=0.2):
        if not reason and (reason := look()):
            fork.stop()
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
