"""A job in a process of its own: what it does to memory, threads and signals ends with it."""

import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from thaw.runs.stopping import STOPS, heard

_SHARED = ("thaw.report.results", "thaw.training.trainer", "thaw.models.weights", "thaw.data.datamodule")


def can_fork() -> bool:
    """Not on macOS, whose libraries do not survive it, nor on Windows."""
    return sys.platform.startswith("linux")


def import_once() -> None:
    """What every job needs, so that none spends seconds on it.

    Nothing is computed and no GPU is touched, for neither survives a fork.
    """
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # asking for GPUs does not start CUDA
    for name in _SHARED:
        importlib.import_module(name)


class Process:
    """Runs `task()` in a fork; what it prints goes to the file `console`, which is kept if it ends badly."""

    def __init__(self, task: Callable[[], None], console: Path):
        self._console = console
        console.parent.mkdir(parents=True, exist_ok=True)
        self._process = multiprocessing.get_context("fork").Process(target=_alone, args=(task, console, os.getpid()))
        self._process.start()

    def wait(self, seconds: float) -> bool:
        """Whether it ended within `seconds`."""
        self._process.join(seconds)
        return self._process.exitcode is not None

    def signal(self, number: int) -> None:
        os.kill(self._process.pid, number)

    @property
    def status(self) -> int:
        """The exit status; minus the signal's number for one that was killed."""
        if self._process.exitcode == 0:
            self._console.unlink(missing_ok=True)
        return self._process.exitcode


def _alone(task: Callable[[], None], console: Path, parent: int) -> None:
    os.setpgid(0, 0)  # Ctrl-C reaches the parent alone, which passes it on once
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in STOPS:
        if number != signal.SIGINT and heard(number):
            signal.signal(number, signal.SIG_DFL)
    with console.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    task()


def _die_with(parent: int) -> None:
    """A parent that is killed cannot stop its jobs; one that ran on would write where the next sweep does."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)
