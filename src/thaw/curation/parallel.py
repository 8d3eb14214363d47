"""Work on many files, on every core that this process may use."""

import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from threadpoolctl import threadpool_limits
from tqdm import tqdm

from thaw.data.workers import usable_cores

Given, Found = TypeVar("Given"), TypeVar("Found")

_CHUNK = 16  # pieces of work that a process is handed at once
_FEW = 64  # that are done sooner than processes are started


def on_every_core(task: Callable[[Given], Found], given: Sequence[Given], title: str, unit: str) -> Iterator[Found]:
    """What `task` makes of each of `given`, in their order, with a progress bar where a terminal shows it."""
    yield from progress(_results(task, given), title, unit, len(given))


def progress(given: Iterable[Given], title: str, unit: str, total: int | None = None) -> Iterator[Given]:
    """Yield each of `given`, with a progress bar where a terminal shows it."""
    yield from tqdm(given, title, total, unit=unit, disable=not sys.stderr.isatty(), leave=False)


def _results(task: Callable[[Given], Found], given: Sequence[Given]) -> Iterator[Found]:
    if len(given) < _FEW or usable_cores() == 1:
        yield from map(task, given)
        return
    context = multiprocessing.get_context("fork" if sys.platform.startswith("linux") else "spawn")
    with context.Pool(usable_cores(), _start_process) as pool:
        yield from pool.imap(task, given, _CHUNK)


def _start_process() -> None:
    """Leave Ctrl-C to the parent, and the other cores to the other processes: NumPy would use them all in each."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threadpool_limits(1)
