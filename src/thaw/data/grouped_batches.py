"""Training batches in groups: a GPU computes a group of batches in little more time than a single batch."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch

from thaw.data.order import SeededOrder


class GroupedOrder:
    """An order of images that are computed in groups of `batches` batches; resumed epochs begin with a whole group."""

    def __init__(self, order: SeededOrder, batches: int):
        self.order, self.batches = order, batches
        self._skipped: tuple[int, int] | None = None  # an epoch, and how many batches of its first group it skips

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
    """The batches of `groups`, which are in the order of `sampler`.

    `compute(group)` returns tensors (N, ...), such as images and labels, which are split into `batch_size` rows each.
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
