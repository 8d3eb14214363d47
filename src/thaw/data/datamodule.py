"""The LightningDataModule over `train/` and `val/` image folders."""

import os
from pathlib import Path

import numpy as np
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from thaw.data.folders import ClassFolders, SeededOrder, aligned_classes
from thaw.data.transforms import eval_transform, resized, train_transform
from thaw.errors import UserError

_BALANCES = (None, "weights", "sampler")

_VAL_PIXELS = 50 * 224**2  # in a batch: 2 GB of activations for the widest nets


class ImageFolderDataModule(LightningDataModule):
    """Batches of (uint8 images (N, 3, H, W), labels (N,)).

    `train_size` is the training crop where it is not `image_size`. `num_workers="auto"` feeds a GPU from every core
    that this process may use, and loads in this process where the cores are busy computing anyway. Training order and
    augmentation depend on `seed` and the epoch alone. `batch_size` is divided among the processes of a run. `balance`
    makes up for classes of unequal size, by `weights` in the loss or a `sampler` that draws each class as often.

    Raises:
        UserError: from the constructor, for folders that cannot be learned from.

    """

    def __init__(
        self,
        root: str | Path,
        image_size: int = 224,
        train_size: int | None = None,
        batch_size: int = 32,
        crop_scale: tuple[float, float] = (0.08, 1.0),
        rotation: float = 15,
        augment: bool = True,
        balance: str | None = None,
        num_workers: int | str = "auto",
        seed: int = 0,
    ):
        super().__init__()
        self.root = Path(root).expanduser()
        self.image_size = _whole("data.image_size", image_size)
        self.train_size = _whole("data.train_size", image_size if train_size is None else train_size)
        self.batch_size = _whole("data.batch_size", batch_size)
        self.num_workers = _best_workers() if num_workers == "auto" else _whole("data.num_workers", num_workers, 0)
        if balance not in _BALANCES:
            raise UserError(f"data.balance={balance!r} is unknown; the choices are null, weights, sampler.")
        self.balance = balance
        self.augment = augment
        self.seed = _whole("seed", seed, 0)
        self.classes = aligned_classes(self.root / "train", self.root / "val")
        transform = (
            train_transform(self.train_size, tuple(crop_scale), rotation)
            if augment
            else eval_transform(self.train_size)
        )
        self.train = ClassFolders(self.root / "train", self.classes, transform)
        self.val = ClassFolders(self.root / "val", self.classes, eval_transform(self.image_size))

    def describe(self) -> str:
        """One paragraph: where the images are, how many of which class, and which files are not read."""
        count, names = len(self.classes), ", ".join(self.classes[:10]) + (", …" if len(self.classes) > 10 else "")
        text = f"{self.root}: {len(self.train)} training and {len(self.val)} validation images "
        text += f"of {count} classes ({names})"
        ignored = self.train.ignored() + self.val.ignored()
        if ignored:
            shown = ", ".join(str(path.relative_to(self.root)) for path in ignored[:3])
            text += f"; not read, for they do not end like images: {shown}{', …' if len(ignored) > 3 else ''}"
            text += f" ({len(ignored)} in all)" if len(ignored) > 3 else ""
        return text

    @property
    def preprocessing(self) -> dict:
        """What is done to a validation image: its short side is resized to `resize`, then `crop` pixels are cut out."""
        return {"resize": resized(self.image_size), "crop": self.image_size}

    @property
    def class_weights(self) -> torch.Tensor | None:
        """Float (classes,) for the loss, if `balance` says so: as large as a class is rare, 1 for equal classes."""
        return self._rarity() if self.balance == "weights" else None

    def _rarity(self) -> torch.Tensor:
        labels = torch.tensor(self.train.targets)
        return len(labels) / (len(self.classes) * labels.bincount(minlength=len(self.classes)))

    def train_order(self) -> SeededOrder:
        """The order of this process's training images, of which `local_batch_size` make a batch."""
        rank, processes = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        chances = self._rarity()[self.train.targets].tolist() if self.balance == "sampler" else None
        return SeededOrder(len(self.train), self.seed, self.batch_size, rank, processes, chances)

    @property
    def local_batch_size(self) -> int:
        processes = self.trainer.world_size if self.trainer else 1
        if self.batch_size % processes:
            raise UserError(f"data.batch_size={self.batch_size} cannot be divided among {processes} devices.")
        return self.batch_size // processes

    @property
    def val_batch_size(self) -> int:
        # Without gradients there is room for larger batches, and no result depends on their size.
        return self._roomy_batch_size(self.image_size)

    def train_dataloader(self) -> DataLoader:
        return self._loader(self.train, batch_size=self.local_batch_size, sampler=self.train_order())

    def val_dataloader(self) -> DataLoader:
        return self._loader(self.val, batch_size=self.val_batch_size)

    def predict_dataloader(self) -> DataLoader:
        return self.val_dataloader()

    def once(self, images: ClassFolders, view: int | None) -> DataLoader:
        """Every image of a split in order, random transforms drawn for `view` and for nothing else."""
        if view is None:
            return self._loader(images, batch_size=self.val_batch_size)
        seeds = np.random.default_rng(view).integers(2**63, size=len(images)).tolist()
        return self._loader(images, batch_size=self._roomy_batch_size(self.train_size), sampler=list(enumerate(seeds)))

    def _roomy_batch_size(self, size: int) -> int:
        return max(self.batch_size, min(256, _VAL_PIXELS // size**2))

    def _loader(self, images: ClassFolders, **options) -> DataLoader:
        return DataLoader(
            images,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            **options,
        )


def usable_cores() -> int:
    """Cores that this process may run on, which in a container or a job can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _best_workers() -> int:
    return usable_cores() if torch.cuda.is_available() else 0


def _whole(name: str, value: int, least: int = 1) -> int:
    if type(value) is not int or value < least:
        raise UserError(f"{name}={value!r} must be a whole number of at least {least}.")
    return value
