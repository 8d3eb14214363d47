"""Ranks of the processes of one distributed run, from environment variables of Lightning, torchrun and SLURM."""

import atexit
import os
import shutil
import tempfile

# Environment variables: rank in the run, rank on the machine, rank of the machine. A missing variable counts as 0.
_RANKS = ("RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK")


def is_first_process() -> bool:
    """Return whether this process has rank 0. Only this process prints and writes into the run's folder."""
    return _rank() == "0"


def for_secondary_rank(arguments: list[str]) -> list[str]:
    """Return `arguments` with options that keep a process of rank above 0 out of the run's folder.

    Otherwise each process of torchrun or SLURM would create a folder named after its own start time. Lightning adds
    these options itself to the processes that it starts.
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
