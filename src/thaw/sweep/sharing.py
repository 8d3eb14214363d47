"""Which jobs of a sweep can share a GPU: those that train only a head, on features that an earlier job has stored."""

import os

from thaw.data.workers import usable_cores
from thaw.runs.configuration import resolved_job
from thaw.sweep.jobs import Job

_MOST = 8  # each takes about half a gigabyte of the GPU's memory
_CORES_EACH = 2
_ONLY_BATCHES = ("seed", "batch_size", "balance", "num_workers")  # options of data that change no feature


def most_at_once() -> int:
    """Return the number of jobs that can share this machine's GPU, or 1 without one: then the cores do the work."""
    import torch

    shares = torch.cuda.is_available() and "OMP_NUM_THREADS" not in os.environ
    return max(1, min(_MOST, usable_cores() // _CORES_EACH)) if shares else 1


def stored_features(job: Job) -> str | None:
    """Return what a job's features depend on, if it trains nothing but a head on stored features; else None."""
    values = resolved_job(job.configuration)
    phases, trainer = values["strategy"].get("phases") or [], values["trainer"]
    trains_heads = bool(phases) and all(phase.get("train") in ("head", ["head"]) for phase in phases)
    if not trains_heads or values["mix"] or values["features"]["views"] == 0 or trainer["devices"] != 1:
        return None
    if trainer["accelerator"] not in ("auto", "gpu", "cuda"):
        return None
    data = {name: value for name, value in values["data"].items() if name not in _ONLY_BATCHES}
    return repr([data, values["model"], values["weights"], values["features"], trainer["max_epochs"]])
