"""How much of this machine may load images."""

import os


def usable_cores() -> int:
    """Cores that this process may run on, which in a container or a job can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def best_workers() -> int:
    """A loader process per core to feed a GPU; none where the cores are busy computing anyway."""
    import torch  # which takes seconds, and those who only count cores need not wait for

    return usable_cores() if torch.cuda.is_available() else 0
