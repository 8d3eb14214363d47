"""A job that one of Hydra's launchers runs: what a fork of the sweep itself gets, it has to get elsewhere."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig, open_dict

from thaw.runs.stopping import PREEMPTED


@dataclass
class LaunchedTask:
    """`task` in a process of a launcher, in which other jobs may have run before.

    It computes with so many `threads`, if that is said. What it prints goes to the job's `console.log`, which is kept
    if it ends badly. It goes on where it was saved: a cluster that needs the machine for something more urgent runs the
    same job again later.
    """

    task: Callable[[DictConfig], object]
    threads: int | None = field(default=None, init=False)

    def __call__(self, cfg: DictConfig) -> object:
        folder = Path(cfg.output_dir)
        if (folder / "checkpoints" / "last.ckpt").is_file():
            with open_dict(cfg):
                cfg.resume = str(folder)
        if self.threads:  # read when torch is imported
            os.environ["OMP_NUM_THREADS"] = str(self.threads)
        with _console(folder / "console.log"):
            try:
                return self.task(cfg)
            except SystemExit as stop:
                if PREEMPTED and stop.code == 128 + PREEMPTED:
                    signal.raise_signal(PREEMPTED)  # all is saved: now the launcher may have the job run again
                raise


@contextmanager
def _console(path: Path) -> Iterator[None]:
    """Sends what this process prints to `path`, also what does not come from Python."""
    kept = [os.dup(stream) for stream in (1, 2)]
    with path.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    try:
        yield
        path.unlink(missing_ok=True)  # processes that train together share it
    finally:
        for stream, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, stream)
            os.close(copy)


def threads_each(cores: int, at_once: int) -> int | None:
    """Of so many jobs at once, as joblib counts them: -1 is one for every core. None where the environment says it."""
    if "OMP_NUM_THREADS" in os.environ:
        return None
    return max(1, cores // at_once) if at_once > 0 else 1
