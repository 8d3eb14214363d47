"""Speed of frozen stages on this machine, measured once and kept in the cache."""

import hashlib
import json
import statistics
import time
from contextlib import suppress

import torch

from thaw.features.prefix import FrozenPrefix
from thaw.storage.cache import cache_dir
from thaw.storage.files import whole_file

_BATCH = {"cpu": 8, "cuda": 128}
_SECONDS = 0.3  # a measurement lasts at least this long, and at least one batch


def images_per_second(prefix: FrozenPrefix, size: int) -> float:
    """Return the speed for images in memory with sides of `size` pixels: the median of batches of 8 (GPU: 128)."""
    key = hashlib.sha256(f"{prefix.digest} {size} {torch.get_num_threads()}".encode()).hexdigest()[:32]
    path = cache_dir() / "speed" / f"{key}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        return float(json.loads(path.read_text())["images_per_second"])
    rate = round(_measured(prefix, size), 1)
    with suppress(OSError):  # without a writable cache, the next run measures again
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            file.write(json.dumps({"images_per_second": rate}))
    return rate


def _measured(prefix: FrozenPrefix, size: int) -> float:
    images = torch.randint(0, 256, (_BATCH.get(prefix.device.type, 8), 3, size, size), dtype=torch.uint8)
    images = images.to(prefix.device)
    prefix(images[:2])  # the first call folds batch norms
    times: list[float] = []
    while sum(times) < _SECONDS:
        start = time.perf_counter()
        prefix(images).flatten()[0].item()  # item() waits for a GPU
        times.append(time.perf_counter() - start)
    return len(images) / statistics.median(times)
