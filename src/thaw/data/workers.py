"""How much of this machine loads images, and computes with how many at once."""

import os

_ROOMY_PIXELS = 50 * 224**2  # in a batch: 2 GB of activations for the widest nets


def usable_cores() -> int:
    """Cores that this process may run on, which in a container or a job can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def best_workers(feeds_gpu: bool) -> int:
    """A loader process per core to feed a GPU; none where the cores are busy computing anyway."""
    return usable_cores() if feeds_gpu else 0


def roomy_batch_size(size: int) -> int:
    """How many images of `size` pixels are looked at at once where nothing is learned."""
    return max(1, min(256, _ROOMY_PIXELS // size**2))
