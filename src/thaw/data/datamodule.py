"""A LightningDataModule for folders of images."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from thaw.data.batches import DistributedBatches
from thaw.data.data_options import DataOptions
from thaw.data.description import describe_images
from thaw.data.fingerprint import fingerprint
from thaw.data.folders import ClassFolders, Key
from thaw.data.grey import resolve_grey_range
from thaw.data.grouped_batches import GroupedBatches, GroupedOrder
from thaw.data.images import load_rgb
from thaw.data.option_values import bounds, whole_number
from thaw.data.order import SeededOrder
from thaw.data.prepared_pixels import PreparedPixels
from thaw.data.readable import skip_unreadable, unreadable
from thaw.data.rotation import Crop, apply_augmentation
from thaw.data.splits import Split, read_splits
from thaw.data.transforms import EvalTransform, TrainTransform, read_size
from thaw.data.workers import best_workers, inference_batch_size
from thaw.errors import UserError
from thaw.runs.stopping import leave_stopping_to_main

_PATIENCE = 900  # seconds to wait for a loader process's batch; network disks can be slow


class ImageFolderDataModule(PreparedPixels, DistributedBatches, LightningDataModule):
    """Data module with batches of (images uint8 (N, 3, H, W), labels (N,)) on the Trainer's device.

    The training loader yields random crops; `thaw.data.rotation.apply_augmentation` rotates and mirrors them on the
    device. The order of training images and their augmentation depend only on `seed` and the epoch.
    `thaw.data.splits.read_splits` explains how images are divided into splits.

    Raises:
        UserError: from the constructor, if the folders or options are invalid.
        RunError: from the constructor, if a test image, or more images than may be skipped, cannot be read.

    """

    def __init__(self, root: str | Path, options: DataOptions, seed: int = 0):
        super().__init__()
        self.root = Path(str(root)).expanduser()  # YAML reads a folder name such as 2024 as a number
        self.options, self.train_size, self.augment = options, options.train_side, options.augment
        self.batch_size, self.balance = options.batch_size, options.balance
        self.seed = whole_number("seed", seed, 0)
        division = options.val_fraction, options.folds, options.fold, options.val_as_test, options.test, options.table
        splits = read_splits(self.root, *division)
        trained, validated = ([path for path, _ in split.samples] for split in (splits.train, splits.val))
        grey, deep = resolve_grey_range(options.grey_range, trained)
        self._is_deep = deep or resolve_grey_range(options.grey_range, validated)[1]
        self.preprocessing = replace(options.preprocessing.scaled(options.val_side), grey_range=grey)
        resampling = bounds("data.crop_scale", options.crop_scale), options.rotation, self.preprocessing.interpolation
        augmentation = TrainTransform(self.train_size, *resampling) if self.augment else None
        self.classes, self.split_note, self.groups = splits.classes, splits.split_note, splits.groups
        self.label_sets = splits.label_sets
        if self.label_sets.several and self.balance:
            raise UserError(f"data.balance={self.balance} needs images with one label each; leave the option out.")
        self.train = self._split(splits.train, self.train_size, augmentation)
        self.val = self._split(splits.val, self.image_size)
        self.test = self._split(splits.test, self.image_size) if splits.test else None
        self.skipped = self._skip_unreadable(options.on_bad_image)
        share = options.train_share
        self._share = f" (data.train_share={share:g} of {len(self.train)})" if share < 1 else ""
        if share < 1:
            self.train.keep_share(share, self.seed)

    def _split(self, split: Split, size: int, augmentation: TrainTransform | None = None) -> ClassFolders:
        centred = self.preprocessing.scaled(size)
        short_side = read_size(size if augmentation else centred.resize)
        transform = augmentation or EvalTransform(centred)
        images = split.whole.with_transform(transform, short_side, self.preprocessing.grey_range)
        images.keep(split.samples)
        return images

    @property
    def splits(self) -> dict[str, ClassFolders]:
        return {"train": self.train, "val": self.val, **({"test": self.test} if self.test else {})}

    @cached_property
    def fingerprint(self) -> dict:
        """A dict that changes if the images, their classes or their splits change; see `thaw.data.fingerprint`."""
        return fingerprint(self.classes, self.splits)

    def _skip_unreadable(self, on_bad_image: str) -> dict[str, list[str]]:
        if on_bad_image == "skip":
            return skip_unreadable(self.splits)
        if self.test:  # decode them now: otherwise an unreadable test image fails the run after training
            for path in sorted(unreadable(self.test.paths, self.test.digests, self.test.short_side)):
                load_rgb(path, self.test.short_side)
        return {name: [] for name in self.splits}

    def setup(self, stage: str) -> None:
        if stage == "fit":
            self.prepare_pixels()

    def on_device(self, batch: Sequence, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Move a loader's batch to `device` and augment it; return (images uint8 (N, 3, H, W), labels (N,))."""
        return apply_augmentation(self.transfer_batch_to_device(batch, device, 0))

    def on_after_batch_transfer(self, batch: Sequence, dataloader_idx: int) -> tuple[torch.Tensor, torch.Tensor]:
        return apply_augmentation(batch)

    def describe(self) -> str:
        text = describe_images(self.root, self.splits, self._share, self.split_note, self.skipped)
        if self._is_deep and self.preprocessing.grey_range:
            low, high = self.preprocessing.grey_range
            text += f"; in grey images of more than 8 bits, {low:g} becomes black and {high:g} white (data.grey_range)"
        return text

    @property
    def num_workers(self) -> int:
        chosen = self.options.num_workers
        return chosen if isinstance(chosen, int) else best_workers(self.feeds_gpu)

    @property
    def image_size(self) -> int:
        """The side of a validation image in pixels."""
        return self.preprocessing.crop

    @property
    def val_batch_size(self) -> int:
        """The batch size for validation, which can be large without gradients. No result depends on this size."""
        return self._inference_batch_size(self.image_size)

    def train_dataloader(self) -> DataLoader | GroupedBatches:
        if self.train.is_on_device:  # the device crops the images of several batches at once
            return self.grouped_batches(lambda images: images)
        return self._train_loader(self.train_order())

    def grouped_batches(self, compute: Callable[[torch.Tensor], torch.Tensor]) -> GroupedBatches:
        """Return training batches of (`compute(images)`, labels); `compute` gets images of several batches at once."""
        order = GroupedOrder(self.train_order(), self._batches_at_once)

        def computed(group: Sequence) -> tuple[torch.Tensor, torch.Tensor]:
            images, labels = self.on_device(group, self.device)
            return compute(images), labels

        loader = self._train_loader(order.order, order.batches)
        return GroupedBatches(order, loader, self.local_batch_size, computed)

    @property
    def _batches_at_once(self) -> int:
        return max(1, inference_batch_size(self.train_size, self.feeds_gpu) // self.local_batch_size)

    def _train_loader(self, order: SeededOrder, batches: int = 1) -> DataLoader:
        return self._loader(self.train, self.num_workers, batch_size=batches * self.local_batch_size, sampler=order)

    def val_dataloader(self) -> DataLoader:
        if not self.val_part:  # a process without images must still take part in collective operations
            empty = torch.zeros(0, 3, self.image_size, self.image_size, dtype=torch.uint8), torch.zeros(0).long()
            return DataLoader(cast(Dataset, [empty]), batch_size=None)  # a list is a map-style dataset, too
        return self._loader(self.val, self.num_workers, batch_size=self.val_batch_size, sampler=self.val_part)

    def predict_dataloader(self) -> DataLoader:
        return self.val_dataloader()

    def view_loader(self, images: ClassFolders, view: int | None) -> DataLoader:
        """Return a loader of all `images` in order. `view` is the seed of random transforms, or None without them."""
        if view is None:
            return self._loader(images, self.num_workers, batch_size=self.val_batch_size)
        return self._seeded_loader(images, range(len(images)), view, self.num_workers)

    def few_loader(self, most: int) -> DataLoader:
        """Return a loader of up to `most` training images, evenly spread over the split."""
        few = np.linspace(0, len(self.train) - 1, min(most, len(self.train))).round().astype(int).tolist()
        # No loader processes: they would run for only a second, and Lightning would not watch them.
        return self._seeded_loader(self.train, few, 0, num_workers=0)

    def _seeded_loader(self, images: ClassFolders, indices: Sequence[int], seed: int, num_workers: int) -> DataLoader:
        seeds = np.random.default_rng(seed).integers(2**63, size=len(indices)).tolist()
        size, keys = self._inference_batch_size(self.train_size), list(zip(indices, seeds, strict=True))
        return self._loader(images, num_workers, batch_size=size, sampler=keys)

    def _inference_batch_size(self, size: int) -> int:
        return max(self.batch_size, inference_batch_size(size, self.feeds_gpu))

    def _loader(self, images: ClassFolders, num_workers: int, **options) -> DataLoader:
        batches = -(-len(options.get("sampler", images)) // options["batch_size"])
        num_workers = 0 if images.is_on_device else min(num_workers, batches)
        return DataLoader(
            Batches(images),
            collate_fn=_unchanged,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            pin_memory=self.feeds_gpu and not images.is_on_device,
            timeout=_PATIENCE if num_workers else 0,
            worker_init_fn=leave_stopping_to_main,
            **options,
        )


class Batches(Dataset):
    """A dataset from which a DataLoader gets all images of a batch with one call."""

    def __init__(self, images: ClassFolders):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, keys: list[Key]) -> tuple[torch.Tensor | Crop, torch.Tensor]:
        return self.images.batch(keys)


def _unchanged(batch: Any) -> Any:
    return batch


def image_folders(
    root: str | Path, image_size: int | None = None, seed: int = 0, **options: Any
) -> ImageFolderDataModule:
    """Return the data module for the images in `root`; `options` are fields of `DataOptions`."""
    return ImageFolderDataModule(root, DataOptions(image_size=image_size, **options), seed)
