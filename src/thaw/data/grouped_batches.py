"""Training batches of which several are computed at once, which takes a GPU little longer than one of them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch

from thaw.data.order import SeededOrder


class GroupedOrder:
    """An order of images that are computed in groups of `batches`; a resumed epoch begins with a whole group."""

    def __init__(self, order: SeededOrder, batches: int):
        self.order, self.batches = order, batches
        self._skipped: tuple[int, int] | None = None  # an epoch, and batches that it skips of its first group

    def set_epoch(self, epoch: int) -> None:
        self.order.set_epoch(epoch)

    def skip(self, epoch: int, batches: int) -> None:
        skipped = batches % self.batches
        self.order.skip(epoch, batches - skipped)
        self._skipped = epoch, skipped

    def skipped_in_group(self) -> int:
        epoch, skipped = self._skipped or (None, 0)
        return skipped if epoch == self.order.epoch else 0


class GroupedBatches:
    """The batches of `groups`, an iterable that follows `sampler`.

    `compute(group)` returns tensors (N, ...), such as images and labels. `batch_size` of their rows form a batch.
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
