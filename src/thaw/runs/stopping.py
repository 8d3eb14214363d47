"""Handle the signals that stop a run. Training stops after the current step, everything else at once."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

HANGUP = getattr(signal, "SIGHUP", None)  # the terminal was closed, or the connection to it was lost
STOPS: tuple[int, ...] = tuple(filter(None, (signal.SIGTERM, signal.SIGINT, HANGUP)))
PREEMPTED = signal.SIGUSR2 if os.name != "nt" else None  # sent by submitit if the job will run again later


def _end(number: int, frame: FrameType | None) -> None:
    with suppress(Exception):
        sys.stdout.flush()
    os._exit(128 + number)


_DEFAULTS = (signal.SIG_DFL, signal.default_int_handler, _end)


def end_on_interrupt() -> None:
    """Make Ctrl-C end the program at once, without a traceback, until a `StopSignals` block handles it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


class Stopped(SystemExit):
    """Raised when a signal stops a run; the exit status is 128 + the signal's number, as in shells."""

    def __init__(self, received: int):
        super().__init__(128 + received)


class StopSignals:
    """A context manager in which a stop signal raises `Stopped`; in an `awaited` block, it only sets `received`."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._awaited = False
        self._before: dict[int, Any] = {}
        self._process = 0

    def __enter__(self) -> "StopSignals":
        self.received, self._awaited, self._process = None, False, os.getpid()
        if threading.current_thread() is threading.main_thread():  # only the main thread can set handlers
            self._before = {number: signal.getsignal(number) for number in _free_signals()}
            self.renew()
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.default_int_handler if handler is _end else handler)
        self.received, self._before = None, {}

    def renew(self) -> None:
        """Set the handlers again, after a library has replaced them."""
        for number in self._before:
            signal.signal(number, self._note)

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Delay stop signals: inside the block they only set `received`; after the block `Stopped` is raised.

        The code in the block should check `received` and finish soon. A second Ctrl-C raises `Stopped` at once.
        """
        self._end_if_received()
        self._awaited = True
        try:
            yield
        finally:
            self._awaited = False
        self._end_if_received()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a loader process, which ends together with the main process
            return
        impatient = self.received == number == signal.SIGINT
        self.received = self.received or number
        if impatient or not self._awaited:
            raise Stopped(self.received)

    def _end_if_received(self) -> None:
        if self.received:
            raise Stopped(self.received)


def _free_signals() -> list[int]:
    """Return the stop signals that are neither ignored (nohup) nor handled (by a launcher), and submitit's SIGUSR2."""
    stops = [number for number in STOPS if signal.getsignal(number) in _DEFAULTS]
    return [*stops, PREEMPTED] if PREEMPTED and callable(signal.getsignal(PREEMPTED)) else stops


def is_not_ignored(number: int) -> bool:
    """Return whether this process reacts to signal `number`; a process under nohup ignores SIGHUP."""
    return signal.getsignal(number) is not signal.SIG_IGN


class WorkerDeaths:
    """A switch for PyTorch's SIGCHLD handler, which raises an error as soon as a loader process dies.

    `mute` turns the handler off, so that no second error interrupts the handling of a first. `listen` turns it on.
    """

    def __init__(self) -> None:
        self._before: Any = None

    def mute(self) -> None:
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and self._before is None and hasattr(signal, "SIGCHLD"):
            self._before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def listen(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGCHLD, self._before)
            self._before = None


def leave_stopping_to_main(worker: int) -> None:
    """Make a loader process ignore stop signals, which reach all processes: the main process still needs batches.

    PyTorch ends loader processes with repeated SIGTERM signals, so only the first SIGTERM is ignored.
    """
    for number in filter(None, (signal.SIGINT, HANGUP)):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, signal.SIG_DFL))


stop_signals = StopSignals()  # one object, because a process has one handler per signal
worker_deaths = WorkerDeaths()
