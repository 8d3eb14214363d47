"""Signals that stop a run: noted while steps are taken, so that it stops between two; elsewhere they end it at once."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

HANGUP = getattr(signal, "SIGHUP", None)  # the terminal was closed, or the connection to it was lost
STOPS = tuple(filter(None, (signal.SIGTERM, signal.SIGINT, HANGUP)))
PREEMPTED = signal.SIGUSR2 if os.name != "nt" else None  # by which submitit tells a job that it is to run again later


def _end(number: int, frame) -> None:
    with suppress(Exception):
        sys.stdout.flush()
    os._exit(128 + number)


_DEFAULTS = (signal.SIG_DFL, signal.default_int_handler, _end)


def end_on_interrupt() -> None:
    """Have Ctrl-C end the program at once and without a traceback, until something begins that has to be ended well."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


class Stopped(SystemExit):
    """A run that a signal has ended, with the exit status by which shells tell it."""

    def __init__(self, received: int):
        super().__init__(128 + received)


class StopSignals:
    """Within it, signals that are to end the process are noted, and raise `Stopped` unless somebody waits for them."""

    def __init__(self):
        self.received: int | None = None
        self._awaited = False
        self._before: dict[int, object] = {}
        self._process = 0

    def __enter__(self) -> "StopSignals":
        self.received, self._awaited, self._process = None, False, os.getpid()
        if threading.current_thread() is threading.main_thread():  # others may not ask for signals
            self._before = {number: signal.getsignal(number) for number in _ours()}
            self.renew()
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.default_int_handler if handler is _end else handler)
        self.received, self._before = None, {}

    def renew(self) -> None:
        """Be told of signals again, after somebody else has asked for them."""
        for number in self._before:
            signal.signal(number, self._note)

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Within it the caller looks at `received` where it can stop; what came later ends the process when it leaves.

        A second Ctrl-C does not wait.
        """
        self._end_if_received()
        self._awaited = True
        try:
            yield
        finally:
            self._awaited = False
        self._end_if_received()

    def _note(self, number: int, frame) -> None:
        if os.getpid() != self._process:  # a loader's worker: it ends with the process that it works for
            return
        impatient = self.received == number == signal.SIGINT
        self.received = self.received or number
        if impatient or not self._awaited:
            raise Stopped(self.received)

    def _end_if_received(self) -> None:
        if self.received:
            raise Stopped(self.received)


def _ours() -> list[int]:
    """Not those which are ignored, as of nohup, or which another, as of a cluster's launcher, has taken upon itself."""
    stops = [number for number in STOPS if signal.getsignal(number) in _DEFAULTS]
    return [*stops, PREEMPTED] if PREEMPTED and callable(signal.getsignal(PREEMPTED)) else stops


def heard(number: int) -> bool:
    """Whether a signal reaches this process: under nohup, SIGHUP does not."""
    return signal.getsignal(number) is not signal.SIG_IGN


class WorkerDeaths:
    """PyTorch tells of a loader's process that died by raising wherever the program is just then.

    From `hush` on it does not, since one fault is being told already; `listen` makes it do so again.
    """

    def __init__(self):
        self._before = None

    def hush(self) -> None:
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and self._before is None and hasattr(signal, "SIGCHLD"):
            self._before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def listen(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGCHLD, self._before)
            self._before = None


def leave_stopping_to_main(worker: int) -> None:
    """Let a loader's worker ignore signals that reach all processes of a run: the first still needs its batch.

    PyTorch ends workers by SIGTERM, too, and more than once; all but the first are obeyed.
    """
    for number in filter(None, (signal.SIGINT, HANGUP)):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, signal.SIG_DFL))


stop_signals = StopSignals()  # there is one set of them in a process
worker_deaths = WorkerDeaths()
