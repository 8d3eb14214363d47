"""Collect the inputs of a network's head while the network computes images."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from thaw.models.head import observed_head
from thaw.models.staged import StagedNet

_MOST_IMAGES, _MOST_NUMBERS = 10_000, 2**25  # at most 128 MB as float32


class HeadInputs:
    """Collects the inputs of a network's head for at most 10,000 of the next `images` images, evenly spaced.

    `shown` has the indices of these k images, int64 (k,); `vectors` has their inputs, float32 (k, D).
    """

    def __init__(self, images: int):
        self._images = images
        self._seen = 0
        self._kept: list[torch.Tensor] = []
        self.shown = torch.empty(0, dtype=torch.long)

    def keep(self, batch: torch.Tensor) -> None:
        """Keep the selected inputs of a batch, float (N, D)."""
        if not self._seen:
            self.shown = evenly_spaced(self._images, min(_MOST_IMAGES, max(_MOST_NUMBERS // batch.shape[1], 1)))
        here = self.shown - self._seen
        self._kept.append(batch[here[(here >= 0) & (here < len(batch))]].float().cpu())
        self._seen += len(batch)

    @property
    def vectors(self) -> torch.Tensor | None:
        """The kept vectors, or None if an image was not seen exactly once: a compiled network may skip hooks."""
        return torch.cat(self._kept) if self._seen == self._images else None

    def spread(self, images: int, numbers: int) -> torch.Tensor:
        """Return evenly spaced rows of `vectors`, int64: at most `images` rows with at most `numbers` numbers."""
        wide = self._kept[0].shape[1] if self._kept else 1
        return evenly_spaced(len(self.shown), min(images, max(numbers // wide, 1)))


def evenly_spaced(count: int, most: int) -> torch.Tensor:
    """Return up to `most` indices below `count`, int64, from the first to the last."""
    return torch.linspace(0, count - 1, min(count, most), dtype=torch.float64).round().long()


@contextmanager
def head_inputs(net: StagedNet, images: int) -> Iterator[HeadInputs]:
    """Record the input of the head for the next `images` images that `net` computes in this block."""
    inputs = HeadInputs(images)
    with observed_head(net, inputs.keep):
        yield inputs
