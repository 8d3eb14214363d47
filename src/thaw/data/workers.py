"""Choose the number of threads, of loader processes, and of images per batch for this machine."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_ROOMY_PIXELS = {"cpu": 50 * 224**2, "gpu": 256 * 224**2}  # a batch of at most 2 GB of activations, 10 GB on a GPU


def usable_cores() -> int:
    """Return the number of cores that this process may use; containers and cluster jobs can restrict it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield `function(item)` for each item in order; one thread per usable core calls the function."""
    with ThreadPoolExecutor(usable_cores()) as pool:
        yield from pool.map(function, items)


def in_threads_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], most: int, threads: int | None = None
) -> Iterator[Result]:
    """Do the same as `in_threads`, but compute up to `most` results ahead of the caller, in `threads` threads."""
    with ThreadPoolExecutor(threads or usable_cores()) as pool:
        rest = (pool.submit(function, item) for item in items)
        ahead = deque(islice(rest, most))
        try:
            while ahead:
                yield ahead.popleft().result()
                ahead.extend(islice(rest, 1))
        finally:
            pool.shutdown(cancel_futures=True)


def best_workers(feeds_gpu: bool) -> int:
    """Return the number of loader processes: one per usable core if batches go to a GPU, otherwise 0."""
    return usable_cores() if feeds_gpu else 0


def inference_batch_size(size: int, on_gpu: bool = False) -> int:
    """Return a batch size of at most 256 for inference, without gradients, on images of `size` x `size` pixels."""
    return max(1, min(256, _ROOMY_PIXELS["gpu" if on_gpu else "cpu"] // size**2))
