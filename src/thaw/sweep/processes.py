"""A job in a process of its own: its memory, threads and signal handlers end with the process."""

import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from thaw.runs.stopping import STOPS, is_not_ignored

_SHARED = ("thaw.report.results", "thaw.training.trainer", "thaw.models.weights", "thaw.data.datamodule")


def can_fork() -> bool:
    """Return whether jobs can run in forks: libraries of macOS do not survive a fork, and Windows has no forks."""
    return sys.platform.startswith("linux")


def import_once() -> None:
    """Import the modules that every job needs, so that no job spends seconds on imports.

    Nothing is computed and no GPU is used, because threads and CUDA do not survive a fork.
    """
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # torch then counts GPUs without starting CUDA
    for name in _SHARED:
        importlib.import_module(name)


def share_cores(processes: int) -> None:
    """Let this process use its share of the cores if several `processes` run at the same time."""
    if processes > 1:
        import torch
        from threadpoolctl import threadpool_limits

        threads = max(1, torch.get_num_threads() // processes)
        torch.set_num_threads(threads)
        threadpool_limits(threads)


class Process:
    """A fork that runs `task()`; its output goes to the file `console`, which stays if the task fails."""

    def __init__(self, task: Callable[[], None], console: Path):
        self._console = console
        console.parent.mkdir(parents=True, exist_ok=True)
        self._process = multiprocessing.get_context("fork").Process(target=_alone, args=(task, console, os.getpid()))
        self._process.start()

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds`; return whether the process has ended."""
        self._process.join(seconds)
        return self._process.exitcode is not None

    def stop(self, grace: float) -> None:
        """Send SIGTERM; after `grace` seconds, kill the process."""
        self.signal(signal.SIGTERM)
        self._process.join(grace)
        if self._process.exitcode is None:
            self._process.kill()

    def signal(self, number: int) -> None:
        assert self._process.pid is not None, "the process has been started"
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(self._process.pid, number)

    @property
    def status(self) -> int:
        """Return the exit status of the ended process; minus the signal's number if a signal killed it."""
        status = self._process.exitcode
        assert status is not None, "the process has ended"
        if status == 0:
            self._console.unlink(missing_ok=True)
        return status


def _alone(task: Callable[[], None], console: Path, parent: int) -> None:
    os.setpgid(0, 0)  # Ctrl-C reaches the parent only, which passes it on once
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in STOPS:
        if number != signal.SIGINT and is_not_ignored(number):
            signal.signal(number, signal.SIG_DFL)
    with console.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    task()


def _end_with(parent: int) -> None:
    """End this process when its parent is killed; otherwise it would write into the folder of the next sweep."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)
