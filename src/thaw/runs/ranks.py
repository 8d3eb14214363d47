"""Ranks of processes that train together, as Lightning, torchrun and SLURM number them."""

import atexit
import os
import shutil
import tempfile

# Ranks among all processes, on the machine, and of the machine. A missing one counts as 0.
_RANKS = ("RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK")


def is_first_process() -> bool:
    """Return whether this process is the one that prints and writes the run's folder."""
    return _rank() == "0"


def for_secondary_rank(arguments: list[str]) -> list[str]:
    """Return command-line `arguments` that keep a secondary process out of the run's folder.

    Without them, each process of torchrun or SLURM would make a folder named after the second in which it started.
    Processes that Lightning starts already know the first one's folder.
    """
    if is_first_process() or "hydra.output_subdir=null" in arguments:
        return arguments
    added = ["hydra.output_subdir=null", f"hydra.job.name=train_process_{_rank()}"]
    if not any(argument.startswith("hydra.run.dir=") for argument in arguments):
        folder = tempfile.mkdtemp(prefix="thaw-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        added.append(f"hydra.run.dir='{folder}'")
    return [*arguments, *added]


def _rank() -> str:
    return next((rank for name in _RANKS if (rank := os.environ.get(name, "0")) != "0"), "0")
