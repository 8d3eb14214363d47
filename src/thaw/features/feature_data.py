"""Data module that gives features instead of images, in the same batches and order."""

from collections.abc import Iterator, Sequence

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

from thaw.data.datamodule import ImageFolderDataModule
from thaw.data.folders import SeededOrder
from thaw.features.prefix import FrozenPrefix
from thaw.features.store import StoredFeatures


class FeatureDataModule(LightningDataModule):
    """Data module with features instead of the images of one split or both.

    `train` holds one view per epoch. After the last view the first one follows again. Without views, `prefix` computes
    the features of the training images in every epoch; without `prefix`, they stay images. `val` are the features of
    the validation images, if they are stored.
    """

    def __init__(
        self,
        data: ImageFolderDataModule,
        train: Sequence[StoredFeatures],
        val: StoredFeatures | None,
        prefix: FrozenPrefix | None = None,
    ):
        super().__init__()
        self.seed = data.seed
        self._data, self._train, self._val, self._prefix = data, train, val, prefix

    @property
    def train_views(self) -> Sequence[StoredFeatures]:
        return self._train

    @property
    def train_labels(self) -> list[int]:
        return self._data.train.targets

    @property
    def class_weights(self) -> torch.Tensor | None:
        return self._data.balancing_weights

    @property
    def fingerprint(self) -> dict:
        return self._data.fingerprint

    def setup(self, stage: str) -> None:
        self._data.trainer = self.trainer
        if not self._train or self._val is None:
            self._data.setup(stage)

    def train_dataloader(self) -> "DataLoader | FreshFeatures":
        if not self._train:
            return FreshFeatures(self._data, self._prefix) if self._prefix else self._data.train_dataloader()
        order = self._data.train_order()
        batches = ViewBatches(order, self._data.local_batch_size, len(self._train))
        return _loader(FeatureRows(self._train, self._data.train.targets), batches, self._data.feeds_gpu)

    def val_dataloader(self) -> DataLoader:
        if self._val is None:
            return self._data.val_dataloader()
        rows = FeatureRows([self._val], self._data.val.targets)
        own_part = torch.tensor(self._data.val_part, dtype=torch.long)  # split() turns no images into one empty batch
        batches = [(0, part.tolist()) for part in own_part.split(self._data.val_batch_size)]
        return _loader(rows, batches, self._data.feeds_gpu)

    def predict_dataloader(self) -> DataLoader:
        return self.val_dataloader()

    def batch_files(self, epoch: int, number: int) -> list[str]:
        return self._data.batch_files(epoch, number)

    def on_after_batch_transfer(self, batch: Sequence[torch.Tensor], dataloader_idx: int) -> Sequence[torch.Tensor]:
        return self._data.on_after_batch_transfer(batch, dataloader_idx)


class FreshFeatures:
    """Training batches of features that `prefix` computes anew in every epoch, for several batches at once."""

    def __init__(self, data: ImageFolderDataModule, prefix: FrozenPrefix):
        self._data, self._prefix, order = data, prefix, data.train_order()
        self._batch_size = data.local_batch_size
        self.sampler = _GroupedOrder(order, data.batches_at_once)
        self._groups = data.train_loader(order, self.sampler.batches)
        self.num_workers = self._groups.num_workers

    def __len__(self) -> int:
        return -(-len(self.sampler.order) // self._batch_size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        skipped = self.sampler.skipped_in_group()
        for group in self._groups:
            images, labels = self._data.on_device(group, self._prefix.device)
            parts = (tensor.split(self._batch_size) for tensor in (self._prefix(images), labels))
            yield from list(zip(*parts, strict=True))[skipped:]
            skipped = 0


class _GroupedOrder:
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


class FeatureRows(Dataset):
    """Dataset: (view, indices) -> (features (N, ...), labels (N,))."""

    def __init__(self, views: Sequence[StoredFeatures], labels: Sequence[int]):
        self._views = views
        self._labels = torch.tensor(labels)

    def __getitem__(self, key: tuple[int, list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        view, indices = key
        return self._views[view][indices], self._labels[indices]


class ViewBatches(Sampler):
    """Sampler of the batches of `order`, each with the view of its epoch."""

    def __init__(self, order: SeededOrder, batch_size: int, views: int):
        self._order, self._batch_size, self._views = order, batch_size, views

    def set_epoch(self, epoch: int) -> None:
        self._order.set_epoch(epoch)

    def skip(self, epoch: int, batches: int) -> None:
        self._order.skip(epoch, batches)

    def __len__(self) -> int:
        return -(-len(self._order) // self._batch_size)

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        indices = [index for index, _ in self._order]
        for start in range(0, len(indices), self._batch_size):
            yield self._order.epoch % self._views, indices[start : start + self._batch_size]


def _loader(rows: FeatureRows, batches: Sampler | Sequence, pinned: bool) -> DataLoader:
    return DataLoader(rows, batch_size=None, sampler=batches, pin_memory=pinned)
