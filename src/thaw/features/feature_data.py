"""Data module that gives features instead of images, in the same batches and order."""

from collections.abc import Iterator, Sequence

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

from thaw.data.datamodule import ImageFolderDataModule
from thaw.data.folders import SeededOrder
from thaw.features.store import StoredFeatures


class FeatureDataModule(LightningDataModule):
    """Data module with stored features instead of the images of one split or both.

    `train` holds one view per epoch. After the last view the first one follows again.
    """

    def __init__(self, data: ImageFolderDataModule, train: Sequence[StoredFeatures], val: StoredFeatures | None):
        super().__init__()
        self.seed = data.seed
        self._data, self._train, self._val = data, train, val

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

    def train_dataloader(self) -> DataLoader:
        if not self._train:
            return self._data.train_dataloader()
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
