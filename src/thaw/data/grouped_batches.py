"""Prepare several training batches at once: a GPU needs hardly more time for a group of batches than for one batch."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch

from thaw.data.order import SeededOrder


class GroupedOrder:
    """A sampler for groups, each of `batches` training batches. A resumed epoch starts at the beginning of a group."""

    def __init__(self, order: SeededOrder, batches: int):
        self.order, self.batches = order, batches
        self._skipped: tuple[int, int] | None = None  # (epoch, batches to skip in its first group)

    def set_epoch(self, epoch: int) -> None:
        self.order.set_epoch(epoch)

    def skip(self, epoch: int, batches: int) -> None:
        skipped = batches % self.batches
        self.order.skip(epoch, batches - skipped)
        self._skipped = epoch, skipped

    def skipped_in_group(self) -> int:
        """Return how many batches to skip in this epoch's first group: a resumed run has already trained on these."""
        epoch, skipped = self._skipped or (None, 0)
        return skipped if epoch == self.order.epoch else 0


class GroupedBatches:
    """An iterable of training batches. Each element of `groups` holds several batches, in the order of `sampler`.

    `compute(group)` returns tensors (N, ...), such as images and labels, to be split into batches of `batch_size` rows.
    """

    def __init__(
        self,
        sampler: GroupedOrder,
        groups: Iterable[Any],
        batch_size: int,
        compute: Callable[[Any], Sequence[torch.Tensor]],
    ):
        self.sampler, self._groups, self._batch_size, self._compute = sampler, groups, batch_size, compute

    def __len__(self) -> int:
        return -(-len(self.sampler.order) // self._batch_size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        skipped = self.sampler.skipped_in_group()
        for group in self._groups:
            parts = (tensor.split(self._batch_size) for tensor in self._compute(group))
            yield from list(zip(*parts, strict=True))[skipped:]
            skipped = 0
