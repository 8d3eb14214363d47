"""Processes that train together, as Lightning, torchrun and SLURM number them."""

import atexit
import os
import shutil
import tempfile

# Of a process among all, on its machine, and of the machine. What is not there is 0.
_NUMBERS = ("RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK")


def is_first_process() -> bool:
    """The one that speaks, and writes the run's folder."""
    return _number() == "0"


def for_secondary_rank(arguments: list[str]) -> list[str]:
    """`arguments` of the command line, so that a process which is not the first leaves the run's folder alone.

    Each of those that torchrun or SLURM starts would else have a folder named after the second in which it started.
    Lightning tells its own where the first one's is.
    """
    if is_first_process() or "hydra.output_subdir=null" in arguments:
        return arguments
    apart = ["hydra.output_subdir=null", f"hydra.job.name=train_process_{_number()}"]
    if not any(argument.startswith("hydra.run.dir=") for argument in arguments):
        folder = tempfile.mkdtemp(prefix="thaw-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        apart.append(f"hydra.run.dir='{folder}'")
    return [*arguments, *apart]


def _number() -> str:
    return next((number for name in _NUMBERS if (number := os.environ.get(name, "0")) != "0"), "0")
