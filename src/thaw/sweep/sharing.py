"""Which jobs of a sweep can share a GPU: those that train only a head, on the same features."""

import os
import subprocess

from thaw.data.option_values import whole_number
from thaw.data.workers import usable_cores
from thaw.runs.configuration import resolved_job
from thaw.sweep.jobs import Job

_MB_EACH = 4096  # GPU memory that a job may need
_SAME_FEATURES = ("seed", "batch_size", "balance", "num_workers")  # options of data that change no feature


def most_at_once(chosen: int | None = None) -> int:
    """Return how many jobs may share this machine's GPU: `chosen`, or one per core and 4 GB of free GPU memory.

    Raises:
        UserError: if `chosen` is less than 1.

    """
    if chosen is not None:
        return whole_number("hydra.sweeper.max_batch_size", chosen)
    if "OMP_NUM_THREADS" in os.environ:
        return 1
    return max(1, min(usable_cores(), _free_gpu_mb() // _MB_EACH))


def _free_gpu_mb() -> int:
    """Return the free memory of the first GPU in MB, or 0 without a GPU that several processes may use.

    This does not start CUDA, which does not survive a fork.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
    command = ["nvidia-smi", f"--id={chosen}", "--query-gpu=memory.free,compute_mode", "--format=csv,noheader,nounits"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
        free, mode = found.strip().split(", ")
        return int(free) if mode == "Default" else 0
    except (OSError, subprocess.SubprocessError, ValueError):
        return 0


def shared_features(job: Job) -> str | None:
    """Return what a job's features depend on if the job trains only a head on stored features on a GPU, else None."""
    values = resolved_job(job.configuration)
    phases, trainer = values["strategy"].get("phases") or [], values["trainer"]
    trains_heads = bool(phases) and all(phase.get("train") in ("head", ["head"]) for phase in phases)
    if not trains_heads or values["mix"] or values["features"]["views"] == 0 or trainer["devices"] != 1:
        return None
    if trainer["accelerator"] not in ("auto", "gpu", "cuda"):
        return None
    data = {name: value for name, value in values["data"].items() if name not in _SAME_FEATURES}
    return repr([data, values["model"], values["weights"], values["features"], trainer["max_epochs"]])
