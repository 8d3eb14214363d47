"""A job of a sweep in a fork, and the signals and faults that can end it."""

import signal
from collections.abc import Callable

from thaw.runs import run_files
from thaw.runs.run_folder import run_folder_held
from thaw.runs.stopping import STOPS, is_not_ignored
from thaw.runs.summary import remove_old_results, write_summary
from thaw.sweep.jobs import Job
from thaw.sweep.processes import Process, share_cores

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


class Fork:
    """A fork that runs or resumes a job. A job that dies without a summary gets one, unless it was stopped.

    Raises:
        UserError: from the constructor, if another process trains in the job's folder.

    """

    def __init__(self, job: Job, task: Callable[[Job, list[str]], None], stop: SignalRelay, at_once: int = 1):
        self.job, self._stop, self._stopped = job, stop, False
        arguments = job.arguments
        clear_attempt(job)

        def run() -> None:
            share_cores(at_once)
            task(job, arguments)

        self._process = Process(run, job.folder / run_files.CONSOLE)
        stop.processes.append(self._process)
        if stop.received:  # the signal came just before
            self._process.signal(stop.received)

    def ended(self, seconds: float) -> bool:
        """Wait at most `seconds`; return whether the job has ended."""
        if not self._process.wait(seconds):
            return False
        self._stop.processes.remove(self._process)
        status = self._process.status
        if not self.job.summary and not self._stopped and not self._stop.received:
            record_death(self.job, _cause(status))
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


def clear_attempt(job: Job) -> None:
    """Remove the files of an earlier attempt, unless the job resumes this attempt.

    Raises:
        UserError: if another process trains in the job's folder.

    """
    with run_folder_held(job.folder):
        if not job.resumes:
            remove_old_results(job.folder)
        (job.folder / run_files.SUMMARY).unlink(missing_ok=True)


def record_death(job: Job, cause: str) -> None:
    """Write the summary of a job whose process could not write it."""
    error = f"the job's process {cause}; {job.folder / run_files.CONSOLE} has its last output"
    write_summary(job.folder, {"status": "failed", "strategy": job.strategy, "error": error})


def _cause(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    killed = f"was killed by {signal.Signals(-status).name}"
    return killed + (", probably because memory ran out" if -status == signal.SIGKILL else "")
