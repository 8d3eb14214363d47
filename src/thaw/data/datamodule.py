"""The LightningDataModule over image folders."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from thaw.data.description import described
from thaw.data.fingerprint import fingerprint
from thaw.data.folders import ClassFolders, SeededOrder
from thaw.data.grey import chosen_range
from thaw.data.images import load_rgb
from thaw.data.option_values import number, one_of, shares, whole_number
from thaw.data.preprocessing import TUTORIAL, Preprocessing
from thaw.data.readable import skip_unreadable, unreadable
from thaw.data.rotation import apply_augmentation
from thaw.data.splits import Split, read_splits
from thaw.data.transforms import TrainTransform, eval_transform, read_size
from thaw.data.workers import best_workers, roomy_batch_size
from thaw.errors import UserError
from thaw.runs.stopping import leave_stopping_to_main

log = logging.getLogger(__name__)

_PATIENCE = 900  # seconds that a batch of a loader process may take; a network's disk may be slow


class ImageFolderDataModule(LightningDataModule):
    """Batches of (uint8 images (N, 3, H, W), labels (N,)), once a Trainer has put them on its device.

    The training loader itself yields crops, which `thaw.data.rotation.apply_augmentation` turns into images.
    Validation images go through `preprocessing`, scaled to `image_size` if that is given. `train_size` is the
    training crop where it is another; training crops are resized with the same interpolation, and without `augment`
    training images are resized and cropped as validation images are. `num_workers="auto"` feeds a GPU from every
    core that this process may use, and loads in this process where the cores are busy computing anyway. Training
    order and augmentation depend on `seed` and the epoch alone. Of each class's training images the `train_share`
    that `seed` draws is used. `batch_size` is divided among the processes of a run, and so are validation images.
    `balance` makes up for classes of unequal size, by `weights` in the loss or a `sampler` that draws each class as
    often. Decoded images are kept in the cache, if those of both splits fit into `pixels_gb`. With
    `on_bad_image="skip"` every image is decoded beforehand, and one that cannot be is replaced in training and left
    out elsewhere. `thaw.data.grey.chosen_range` says what `grey_range` can be. How images are divided, where folders do
    not say it, is told in `read_splits`.

    Raises:
        UserError: from the constructor, for folders that cannot be learned from.
        RunError: from the constructor, for more bad images than can be skipped, and for a bad test image.

    """

    def __init__(
        self,
        root: str | Path,
        image_size: int | None = None,
        train_size: int | None = None,
        batch_size: int = 32,
        crop_scale: tuple[float, float] = (0.08, 1.0),
        rotation: float = 15,
        augment: bool = True,
        train_share: float = 1.0,
        balance: str | None = None,
        num_workers: int | str = "auto",
        pixels_gb: float = 4,
        seed: int = 0,
        on_bad_image: str = "error",
        val_fraction: float = 0.2,
        folds: int | None = None,
        fold: int = 0,
        preprocessing: Preprocessing = TUTORIAL,
        grey_range: str | Sequence[float] = "auto",
    ):
        super().__init__()
        self.root = Path(str(root)).expanduser()  # one called 2024 is a number to YAML
        size = preprocessing.crop if image_size is None else whole_number("data.image_size", image_size)
        self.preprocessing = preprocessing.scaled(size)
        self.train_size = whole_number("data.train_size", size if train_size is None else train_size)
        self.batch_size = whole_number("data.batch_size", batch_size)
        self._num_workers = None if num_workers == "auto" else whole_number("data.num_workers", num_workers, 0)
        if type(augment) is not bool:
            raise UserError(f"data.augment={augment!r} is neither true nor false.")
        if type(train_share) not in (int, float) or not 0 < train_share <= 1:
            raise UserError(f"data.train_share={train_share!r} must be above 0 and at most 1.")
        self.balance = one_of("data.balance", balance, (None, "weights", "sampler"))
        self.augment = augment
        self.pixels_gb = number("data.pixels_gb", pixels_gb)
        self.seed = whole_number("seed", seed, 0)
        splits = read_splits(self.root, val_fraction, folds, fold)
        self.classes, self.drawn = splits.classes, splits.drawn
        grey, self._is_deep = chosen_range(grey_range, [path for path, _ in splits.train.samples])
        self.preprocessing = replace(self.preprocessing, grey_range=grey)
        rotation = number("data.rotation", rotation)
        scale = shares("data.crop_scale", crop_scale)
        augmented = TrainTransform(self.train_size, scale, rotation, self.preprocessing.interpolation)
        self.train = self._split(splits.train, self.train_size, augmented if augment else None)
        self.val = self._split(splits.val, self.image_size)
        self.test = self._split(splits.test, self.image_size) if splits.test else None
        self.skipped = self._skipped(one_of("data.on_bad_image", on_bad_image, ("error", "skip")))
        self._share = f" (data.train_share={train_share:g} of {len(self.train)})" if train_share < 1 else ""
        if train_share < 1:
            self.train.keep_share(train_share, self.seed)
        self._pixels_prepared = False
        self.fewest_images = 1  # of a device's part of the last training batch, which is left out if it has fewer

    def _split(self, split: Split, size: int, augmented: TrainTransform | None = None) -> ClassFolders:
        centred = self.preprocessing.scaled(size)
        short_side = read_size(size if augmented else centred.resize)
        grey = self.preprocessing.grey_range
        images = split.whole.prepared(augmented or eval_transform(centred), short_side, grey)
        images.keep(split.samples)
        return images

    @property
    def splits(self) -> dict[str, ClassFolders]:
        return {"train": self.train, "val": self.val, **({"test": self.test} if self.test else {})}

    @cached_property
    def fingerprint(self) -> dict:
        """What the batches depend on, of the images; see `thaw.data.fingerprint`."""
        return fingerprint(self.classes, self.splits)

    def _skipped(self, on_bad_image: str) -> dict[str, list[str]]:
        """The paths in each split that are passed over."""
        if on_bad_image == "skip":
            return skip_unreadable(self.splits)
        if self.test:  # which are read when training is over, and would spoil a run that is done
            for path in sorted(unreadable(self.test.paths, self.test.digests, self.test.short_side)):
                load_rgb(path, self.test.short_side)
        return {name: [] for name in self.splits}

    def setup(self, stage: str) -> None:
        if stage == "fit":
            self.prepare_pixels()

    def prepare_pixels(self) -> None:
        """Have all images decoded once, unless they would need more room than they may have. Only time depends on it.

        Raises:
            UnreadableImageError: naming the path, for an image that cannot be decoded.

        """
        if self._pixels_prepared or not self.pixels_gb:
            return
        splits, most = (self.train, self.val), self.pixels_gb * 1e9
        sizes = [images.bytes_decoded() for images in splits]
        if sum(sizes) > most:
            log.info(
                f"images are decoded for every epoch: kept decoded they would need {sum(sizes) / 1e9:.1f} GB, "
                f"and data.pixels_gb={self.pixels_gb:g}"
            )
        else:
            for images, size in zip(splits, sizes, strict=True):
                images.keep_decoded(size, most)
        self._pixels_prepared = True

    def on_after_batch_transfer(self, batch, dataloader_idx: int) -> tuple[torch.Tensor, torch.Tensor]:
        return apply_augmentation(batch)

    def describe(self) -> str:
        told = described(self.root, self.splits, self._share, self.drawn, self.skipped)
        low, high = self.preprocessing.grey_range
        deep = f"; of grey with more than 8 bits, {low:g} becomes black and {high:g} white (data.grey_range)"
        return told + (deep if self._is_deep else "")

    @property
    def feeds_gpu(self) -> bool:
        """Whether batches go to a GPU; without a Trainer, whether there is one. A Trainer can leave it alone."""
        return self.trainer.strategy.root_device.type == "cuda" if self.trainer else torch.cuda.is_available()

    @property
    def num_workers(self) -> int:
        return best_workers(self.feeds_gpu) if self._num_workers is None else self._num_workers

    @property
    def image_size(self) -> int:
        """The side, in pixels, of a validation image."""
        return self.preprocessing.crop

    @property
    def class_weights(self) -> torch.Tensor | None:
        """Float (classes,) for the loss, if `balance` says so: as large as a class is rare, 1 for equal classes."""
        return self._rarity() if self.balance == "weights" else None

    @property
    def balancing_weights(self) -> torch.Tensor | None:
        """As `class_weights`, and where `balance` draws rare classes more often, what that comes to on average."""
        return self._rarity() if self.balance else None

    def _rarity(self) -> torch.Tensor:
        labels = torch.tensor(self.train.targets)
        return len(labels) / (len(self.classes) * labels.bincount(minlength=len(self.classes)))

    def train_order(self) -> SeededOrder:
        """The order of this process's training images, of which `local_batch_size` make a batch."""
        return self._order(*self._place)

    def _order(self, rank: int, processes: int) -> SeededOrder:
        chances = self._rarity()[self.train.targets].tolist() if self.balance == "sampler" else None
        return SeededOrder(len(self.train), self.seed, self.batch_size, rank, processes, chances, self.fewest_images)

    def has_single_images(self, devices: int) -> bool:
        """Whether one of so many devices is given a training batch of a single image."""
        return self.batch_size < 2 * devices or devices <= len(self.train) % self.batch_size < 2 * devices

    def batch_files(self, epoch: int, number: int) -> list[str]:
        """The training images of an epoch's batch, relative to `root`; both are counted from 0."""
        order = self._order(0, 1)
        order.set_epoch(epoch)
        first = number * self.batch_size
        paths = [self.train.paths[index] for index, _ in list(order)[first : first + self.batch_size]]
        return [Path(path).relative_to(self.root).as_posix() for path in paths]

    @property
    def local_batch_size(self) -> int:
        return self.batch_for_each(self._place[1])

    def batch_for_each(self, devices: int) -> int:
        """How many images of a batch each of so many devices has.

        Raises:
            UserError: if the batch cannot be divided.

        """
        if self.batch_size % devices:
            raise UserError(f"data.batch_size={self.batch_size} cannot be divided among {devices} devices.")
        return self.batch_size // devices

    @property
    def _place(self) -> tuple[int, int]:
        """The number of this process, from 0, among so many that train together."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    @property
    def val_part(self) -> range:
        """The validation images of this process: neighbours, as many as any other has, or one more or fewer."""
        rank, processes = self._place
        first, end = (-(-number * len(self.val) // processes) for number in (rank, rank + 1))
        return range(first, end)

    @property
    def val_batch_size(self) -> int:
        # Without gradients there is room for larger batches, and no result depends on their size.
        return self._roomy_batch_size(self.image_size)

    def train_dataloader(self) -> DataLoader:
        return self._loader(self.train, self.num_workers, batch_size=self.local_batch_size, sampler=self.train_order())

    def val_dataloader(self) -> DataLoader:
        if not self.val_part:  # a process must take part in what all compute together
            nothing = torch.zeros(0, 3, self.image_size, self.image_size, dtype=torch.uint8), torch.zeros(0).long()
            return DataLoader([nothing], batch_size=None)
        return self._loader(self.val, self.num_workers, batch_size=self.val_batch_size, sampler=self.val_part)

    def predict_dataloader(self) -> DataLoader:
        return self.val_dataloader()

    def once(self, images: ClassFolders, view: int | None, num_workers: int | None = None) -> DataLoader:
        """Every image of a split in order, random transforms drawn for `view` and for nothing else."""
        workers = self.num_workers if num_workers is None else num_workers
        if view is None:
            return self._loader(images, workers, batch_size=self.val_batch_size)
        seeds = np.random.default_rng(view).integers(2**63, size=len(images)).tolist()
        size = self._roomy_batch_size(self.train_size)
        return self._loader(images, workers, batch_size=size, sampler=list(enumerate(seeds)))

    def _roomy_batch_size(self, size: int) -> int:
        return max(self.batch_size, roomy_batch_size(size))

    def _loader(self, images: ClassFolders, num_workers: int, **options) -> DataLoader:
        return DataLoader(
            images,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            pin_memory=self.feeds_gpu,
            timeout=_PATIENCE if num_workers else 0,
            worker_init_fn=leave_stopping_to_main,
            **options,
        )
