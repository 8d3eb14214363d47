"""Run a function on many items in parallel, on every core that this process may use."""

import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from threadpoolctl import threadpool_limits
from tqdm import tqdm

from thaw.data.workers import usable_cores

Item = TypeVar("Item")
Result = TypeVar("Result")

_CHUNK = 16  # items that a worker process receives at a time
_FEW = 64  # for fewer items, starting worker processes takes longer than the work itself


def on_every_core(
    task: Callable[[Item], Result], items: Iterable[Item], count: int, title: str, unit: str
) -> Iterator[Result]:
    """Yield `task(item)` for each of the `count` items, in order, with a progress bar in a terminal."""
    yield from progress(_results(task, items, count), title, unit, count)


def progress(items: Iterable[Item], title: str, unit: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items, with a progress bar if standard error is a terminal."""
    yield from tqdm(items, title, total, unit=unit, disable=not sys.stderr.isatty(), leave=False)


def _results(task: Callable[[Item], Result], items: Iterable[Item], count: int) -> Iterator[Result]:
    if count < _FEW or usable_cores() == 1:
        yield from map(task, items)
        return
    context = multiprocessing.get_context("fork" if sys.platform.startswith("linux") else "spawn")
    with context.Pool(usable_cores(), _start_process) as pool:
        yield from pool.imap(task, items, _CHUNK)


def _start_process() -> None:
    """Ignore Ctrl-C, because the parent process handles it, and limit NumPy to one core per process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threadpool_limits(1)
