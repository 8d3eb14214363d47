"""A job in a process of one of Hydra's launchers. Unlike a fork of the sweep, such a process inherits nothing."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig, open_dict

from thaw.runs import run_files
from thaw.runs.stopping import PREEMPTED


@dataclass
class LaunchedTask:
    """The function `task` in a launcher's process, in which other jobs may have run before.

    What the job prints goes to its `console.log`, which stays if the job fails. The job resumes from its last
    checkpoint: a cluster that takes the machine away for a more urgent job runs the same job again later. `threads` is
    the number of threads per job, or None for the environment's number.
    """

    task: Callable[[DictConfig], object]
    threads: int | None = field(default=None, init=False)

    def __call__(self, cfg: DictConfig) -> object:
        folder = Path(cfg.output_dir)
        if (folder / run_files.LAST).is_file():
            with open_dict(cfg):
                cfg.resume = str(folder)
        if self.threads:  # torch reads this variable on import
            os.environ["OMP_NUM_THREADS"] = str(self.threads)
        with _console(folder / run_files.CONSOLE):
            try:
                return self.task(cfg)
            except SystemExit as stop:
                if PREEMPTED and stop.code == 128 + PREEMPTED:
                    signal.raise_signal(PREEMPTED)  # everything is saved: now the launcher may requeue the job
                raise


@contextmanager
def _console(path: Path) -> Iterator[None]:
    """Redirect this process's output to `path` inside the block, including output of code that is not Python."""
    kept = [os.dup(stream) for stream in (1, 2)]
    with path.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    try:
        yield
        path.unlink(missing_ok=True)  # processes that train together share this file
    finally:
        for stream, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, stream)
            os.close(copy)


def threads_each(cores: int, at_once: int) -> int | None:
    """Return the number of threads for each job, or None if the environment sets it.

    `at_once` is the number of jobs that run at once, as joblib counts them; -1 is one per core.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return None
    return max(1, cores // at_once) if at_once > 0 else 1
