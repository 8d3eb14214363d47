"""Features on disk, in `$THAW_CACHE/features`, under a key that covers everything the features depend on."""

import functools
import hashlib
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch

from thaw.data.transfer import sent
from thaw.storage.arrays import DamagedArrayError, read_array, write_array
from thaw.storage.cache import build_bounded
from thaw.storage.versions import FEATURES, READING, TRANSFORMS, library_version

log = logging.getLogger(__name__)

_NAME = "features"

# NumPy has no bfloat16, so the bits are stored as int16.
_STORED_AS = {torch.bfloat16: torch.int16}


class StoredFeatures:
    """Features (N, ...) of a split's images, in the split's order. Feature maps are stored with channels last."""

    def __init__(self, rows: torch.Tensor):
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, indices: list[int] | slice) -> torch.Tensor:
        return _channels_first(self._rows[indices])

    def gathered(self, indices: torch.Tensor) -> torch.Tensor:
        """Return the rows at `indices`, int64 (N,), on the device of the features."""
        return _channels_first(self._rows[sent(indices, self._rows.device)])

    @property
    def nbytes(self) -> int:
        return self._rows.numel() * self._rows.element_size()

    def moved_to(self, device: torch.device) -> "StoredFeatures":
        return StoredFeatures(self._rows.to(device))


def feature_key(*parts: str) -> str:
    """Return a key for features that depend on `parts`, on Thaw's code and on the libraries that compute them."""
    return hashlib.sha256("\n".join([*parts, _code()]).encode()).hexdigest()[:32]


def stored_features(
    key: str, example: torch.Tensor, count: int, max_size: float, batches: Callable[[], Iterable[torch.Tensor]]
) -> StoredFeatures:
    """Return the features stored under `key`; if they are missing, compute and store them first.

    `batches()` yields `count` rows with the shape and dtype of `example` (1, ...). The features under all keys take at
    most `max_size` bytes.

    Raises:
        OSError: if the features cannot be written.

    """
    found = []

    def is_whole(path: Path) -> bool:
        try:
            found.append(read_array(path, _NAME))
        except DamagedArrayError as error:
            log.warning(f"{error}; the features are computed again")
            return False
        return True

    def write(path: Path) -> None:
        write_array(path, _NAME, map(_as_stored, batches()))

    size = count * example.numel() * example.element_size()
    path = build_bounded(f"features/{key}", write, is_whole, size, max_size)
    return _as_features(found[0] if found else read_array(path, _NAME), example.dtype)


def in_memory(batches: Iterable[torch.Tensor]) -> StoredFeatures:
    kept = [(_as_stored(batch), batch.dtype) for batch in batches]
    return _as_features(np.concatenate([array for array, _ in kept]), kept[0][1])


def _as_features(array: np.ndarray, dtype: torch.dtype) -> StoredFeatures:
    return StoredFeatures(torch.from_numpy(array).view(dtype))


def _channels_first(features: torch.Tensor) -> torch.Tensor:
    return features.permute(0, 3, 1, 2) if features.ndim == 4 else features


def _as_stored(features: torch.Tensor) -> np.ndarray:
    features = features.permute(0, 2, 3, 1) if features.ndim == 4 else features
    return features.contiguous().cpu().view(_STORED_AS.get(features.dtype, features.dtype)).numpy()


@functools.cache
def _code() -> str:
    libraries = [f"{name} {library_version(name)}" for name in ("torch", "torchvision", "pillow")]
    return f"{libraries} {READING} {TRANSFORMS} {FEATURES}"
