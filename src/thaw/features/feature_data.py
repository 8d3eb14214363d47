"""Data module that yields features instead of images, in the batches and order of the images."""

import logging
from collections.abc import Iterator, Sequence

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from thaw.data.datamodule import ImageFolderDataModule
from thaw.data.grouped_batches import GroupedBatches, GroupedOrder
from thaw.data.order import SeededOrder
from thaw.data.transfer import sent
from thaw.features.prefix import FrozenPrefix
from thaw.features.store import StoredFeatures

log = logging.getLogger(__name__)

_BYTES_AT_ONCE = 2**26  # bytes of features to gather at once, for several batches


class FeatureDataModule(LightningDataModule):
    """Data module that yields features instead of images for training, for validation or for both.

    `train` lists features of differently augmented views of the training images; epoch e (from 0) uses view
    `e % len(train)`. If `train` is empty, `prefix` computes features in every epoch; without `prefix`, training uses
    images. `val` holds the features of the validation images; if it is None, validation uses images. Features are
    copied to the Trainer's device if they take at most `device_bytes`.
    """

    def __init__(
        self,
        data: ImageFolderDataModule,
        train: Sequence[StoredFeatures],
        val: StoredFeatures | None,
        prefix: FrozenPrefix | None = None,
        device_bytes: float = 0,
    ):
        super().__init__()
        self.seed = data.seed
        self._data, self.train_views, self._val, self._prefix = data, train, val, prefix
        self._device_bytes = device_bytes
        self._used: tuple[Sequence[StoredFeatures], StoredFeatures | None] | None = None

    @property
    def fingerprint(self) -> dict:
        return self._data.fingerprint

    def setup(self, stage: str) -> None:
        self._data.trainer = self.trainer
        if not self.train_views or self._val is None:
            self._data.setup(stage)
        self._used = self._used or self._on_device()

    def _on_device(self) -> tuple[Sequence[StoredFeatures], StoredFeatures | None]:
        if sum(part.nbytes for part in (*self.train_views, *filter(None, [self._val]))) <= self._device_bytes:
            try:
                train = [view.moved_to(self._data.device) for view in self.train_views]
                return train, self._val and self._val.moved_to(self._data.device)
            except torch.OutOfMemoryError:
                log.warning("the GPU has no room for features, so they stay in RAM; lower features.device_gb")
        return self.train_views, self._val

    def train_dataloader(self) -> DataLoader | GroupedBatches:
        if not self.train_views:
            return self._data.grouped_batches(self._prefix) if self._prefix else self._data.train_dataloader()
        views, size = (self._used or self._on_device())[0], self._data.local_batch_size
        batches = max(1, _BYTES_AT_ONCE * len(views[0]) // (size * views[0].nbytes))
        sampler = GroupedOrder(self._data.train_order(), batches)
        groups = ViewGroups(sampler.order, batches * size, len(views))
        labels, device = torch.tensor(self._data.train.targets), self._data.device

        def gather(group: tuple[int, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
            view, indices = group
            return sent(views[view].gathered(indices), device), sent(labels[indices], device)

        return GroupedBatches(sampler, groups, size, gather)

    def val_dataloader(self) -> "DataLoader | FeatureSlices":
        if self._val is None:
            return self._data.val_dataloader()
        rows = (self._used or self._on_device())[1]
        assert rows is not None, "setup copies self._val"
        return FeatureSlices(rows, torch.tensor(self._data.val.targets), self._data.val_part, self._data.val_batch_size)

    def predict_dataloader(self) -> "DataLoader | FeatureSlices":
        return self.val_dataloader()

    def batch_files(self, epoch: int, number: int) -> list[str]:
        return self._data.batch_files(epoch, number)

    def on_after_batch_transfer(self, batch: Sequence[torch.Tensor], dataloader_idx: int) -> Sequence[torch.Tensor]:
        return self._data.on_after_batch_transfer(batch, dataloader_idx)


class ViewGroups:
    """Iterable over pairs (view, `size` indices from `order`). Epoch e (from 0) uses augmented view `e % views`."""

    def __init__(self, order: SeededOrder, size: int, views: int):
        self._order, self._size, self._views = order, size, views

    def __iter__(self) -> Iterator[tuple[int, torch.Tensor]]:
        for indices in torch.tensor([index for index, _ in self._order], dtype=torch.long).split(self._size):
            yield self._order.epoch % self._views, indices


class FeatureSlices:
    """Iterable over batches (features, labels) of `size` rows from range `part`; one empty batch if `part` is empty."""

    def __init__(self, rows: StoredFeatures, labels: torch.Tensor, part: range, size: int):
        starts = range(part.start, max(part.stop, part.start + 1), size)
        self._slices = [slice(start, min(start + size, part.stop)) for start in starts]
        self._rows, self._labels = rows, labels

    def __len__(self) -> int:
        return len(self._slices)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for part in self._slices:
            yield self._rows[part], self._labels[part]
