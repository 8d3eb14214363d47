"""Speed of frozen stages on this machine, measured once and kept in the cache."""

import hashlib
import json
import time
from contextlib import suppress

import torch

from thaw.features.prefix import FrozenPrefix
from thaw.storage.cache import cache_dir
from thaw.storage.files import write_whole

_BATCH = {"cpu": 8, "cuda": 128}
_SECONDS = 0.3  # a measurement lasts at least this long, and at least one batch


def images_per_second(prefix: FrozenPrefix, size: int) -> float:
    """Return the speed of `prefix` for images of `size` x `size` pixels in memory, on one CPU core or on a GPU.

    The fastest of several batches (8 images, or 128 on a GPU) counts. A CPU's speed is measured on one core, because
    with several threads it would depend on what else the machine computes.
    """
    key = hashlib.sha256(f"{prefix.digest} {size} one core".encode()).hexdigest()[:32]
    path = cache_dir() / "speed" / f"{key}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        return float(json.loads(path.read_text())["images_per_second"])
    rate = round(_measured(prefix, size), 1)
    with suppress(OSError):  # without a writable cache, the next run measures again
        write_whole(path, json.dumps({"images_per_second": rate}))
    return rate


def _measured(prefix: FrozenPrefix, size: int) -> float:
    images = torch.randint(0, 256, (_BATCH.get(prefix.device.type, 8), 3, size, size), dtype=torch.uint8)
    images = images.to(prefix.device)
    times: list[float] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        prefix(images[:2])  # the first call folds batch norms
        while sum(times) < _SECONDS:
            start = time.perf_counter()
            prefix(images).flatten()[0].item()  # item() waits for a GPU
            times.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return len(images) / min(times)
