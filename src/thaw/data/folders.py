"""A split of a data set: a folder with one folder of images per class."""

import copy
import logging
import os
import sys
from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import default_collate
from torchvision.datasets import ImageFolder
from tqdm import tqdm

from thaw.data.device_pixels import DevicePixels
from thaw.data.digests import digest_of, file_digests, joint_digest, reading_version
from thaw.data.endings import EXTENSIONS, is_image, what_to_install
from thaw.data.gpu_jpegs import JpegDecoder
from thaw.data.grey import GreyRange
from thaw.data.images import load_rgb
from thaw.data.label_sets import ONE_CLASS, LabelSets
from thaw.data.label_strata import nested_share
from thaw.data.pixel_cache import StoredPixels, bytes_needed, stored_pixels
from thaw.data.rotation import Crop, apply_augmentation
from thaw.data.walk import Walk, walk
from thaw.errors import RunError, UserError
from thaw.pages.text import listed
from thaw.storage.versions import TRANSFORMS

log = logging.getLogger(__name__)

Key = int | tuple[int, int]
Sample = tuple[str, int]  # path, class index
Transform = Callable[[Image.Image], torch.Tensor | Crop]


class ClassFolders(ImageFolder):
    """Dataset of the images in `root`, which holds one folder per class; labels are indices into `classes`.

    `dataset[key]` is (transformed image, label). `key` is an index or (index, seed). With a seed, random transforms
    depend only on the seed: not on the worker process, nor on items loaded before. `short_side` and `grey_range` are
    passed to `thaw.data.images.load_rgb`. `samples` are the images if a table lists them; class folders are not read.
    `label_sets` says which classes a label stands for.

    Raises:
        UserError: from the constructor, if a folder is missing or a class has no images.

    """

    def __init__(
        self,
        root: Path,
        classes: Sequence[str],
        transform: Transform | None = None,
        short_side: int | None = None,
        grey_range: GreyRange = None,
        samples: Sequence[Sample] | None = None,
        label_sets: LabelSets = ONE_CLASS,
    ):
        files = Walk(root) if samples is not None else walk(root)
        self._classes, self._samples = list(classes), list(samples or class_samples(files, classes))
        if samples is None:
            _refuse_empty_classes(files, classes, {label for _, label in self._samples})
        super().__init__(str(root), transform=transform)
        self.short_side, self.grey_range, self.label_sets = short_side, grey_range, label_sets
        self.found = set(self.paths)  # all images, including those that `keep` removes later
        self.repeated = [os.path.join(root, link) for link in files.repeated]
        self.ignored = sorted(set(files.paths()) - self.found)  # not an image, or not in a class folder
        self._stored: StoredPixels | DevicePixels | None = None
        self.decoder: JpegDecoder | None = None  # None: Pillow decodes the images

    def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
        return self._classes, {name: label for label, name in enumerate(self._classes)}

    def make_dataset(self, *args, **kwargs) -> list[Sample]:
        """Replace torchvision's file search: it includes hidden files, and finds files in linked folders twice."""
        return self._samples

    def __getitem__(self, key: Key) -> tuple[torch.Tensor | Crop, int]:
        if isinstance(key, int):
            assert self.transform is not None, "an item needs a transform"
            return self.transform(self._read(key)), self.samples[key][1]
        index, seed = key
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return self[index]

    def batch(self, keys: Sequence[Key]) -> tuple[torch.Tensor | Crop, torch.Tensor]:
        """Return the items of `keys` as one batch. Decoded images are transformed together if this is faster."""
        transform = getattr(self.transform, "of_batch", None)
        if transform and self._stored is not None:
            indices = [key if isinstance(key, int) else key[0] for key in keys]
            seeds = [key[1] for key in keys if not isinstance(key, int)]
            images = transform(self._stored.batch(indices), seeds)
            if images is not None:
                return images, torch.tensor([self.targets[index] for index in indices])
        return default_collate([self[key] for key in keys])

    def augmented(self, key: Key) -> tuple[torch.Tensor, int]:
        """Return an item as the network sees it: the augmented image, uint8 (3, S, S), and its label."""
        (image,), (label,) = apply_augmentation(default_collate([self[key]]))
        return image, int(label)

    def _read(self, index: int) -> Image.Image:
        if self._stored is not None:
            return Image.fromarray(self._stored[index])
        return load_rgb(self.samples[index][0], self.short_side, grey_range=self.grey_range)

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.samples]

    @cached_property
    def digests(self) -> list[bytes]:
        """The SHA-256 of each image file, in the order of `samples`."""
        return file_digests(self.paths)

    @cached_property
    def contents(self) -> str:
        """One SHA-256, in hexadecimal, of all image files in the order of `samples`."""
        return joint_digest(self.digests)

    @cached_property
    def digest(self) -> str:
        """A digest of all files and settings that determine the items, without seeds; the same in every process."""
        code, decoder = reading_version(TRANSFORMS), [self.decoder.name] if self.decoder else []
        return digest_of(self.contents, self.short_side, self.grey_range, repr(self.transform), code, *decoder)

    def keep_share(self, share: float, seed: int) -> None:
        """Keep a random share of each class, at least one image. With one seed, larger shares contain smaller ones."""
        random, targets, kept = np.random.default_rng(seed), np.array(self.targets), []
        if self.label_sets.several:
            kept = nested_share(self.label_sets.matrix(targets), share, random)
        for label in () if self.label_sets.several else range(len(self.classes)):
            (own,) = np.nonzero(targets == label)
            kept += sorted(random.permutation(own)[: max(1, round(share * len(own)))].tolist())
        self.keep([self.samples[index] for index in kept])

    def keep(self, samples: Sequence[Sample]) -> None:
        """Keep only `samples`, in the given order."""
        known = dict(zip(self.paths, self.digests, strict=True)) if "digests" in self.__dict__ else {}
        self.samples = self.imgs = list(samples)
        self.targets = [label for _, label in self.samples]
        for name in ("digests", "contents", "digest"):
            self.__dict__.pop(name, None)
        if known and known.keys() >= set(self.paths):
            self.digests = [known[path] for path in self.paths]

    def with_transform_of(self, other: "ClassFolders") -> "ClassFolders":
        """Return a copy that loads and transforms its images in the same way as `other`."""
        same = copy.copy(self)
        same.__dict__.pop("digest", None)
        same.transform = other.transform
        if same.short_side != other.short_side:
            same.short_side, same._stored = other.short_side, None
        return same

    def decoded_size(self) -> int:
        """Return the number of bytes that `store_decoded` needs."""
        return bytes_needed(self.paths, self.contents, self.short_side)

    def store_decoded(self, size: int, max_size: float) -> None:
        """Decode all images into the cache; read them from there. `pixel_cache.stored_pixels` explains `max_size`."""
        self._stored = stored_pixels(self.paths, self.contents, self.short_side, size, max_size, self.grey_range)

    def move_decoded(self, device: torch.device) -> None:
        """Copy the decoded images to `device`, which then crops and resizes them; if they do not fit, log a warning."""
        if isinstance(self._stored, StoredPixels):
            try:
                self._stored = DevicePixels.copied(self._stored, device)
            except torch.OutOfMemoryError:
                log.warning(f"{device} has no room for decoded images, so they stay in RAM; lower data.device_gb")

    def use_decoder(self, decoder: JpegDecoder) -> None:
        """Make `decode_on_device` decode the images with `decoder`."""
        self.decoder = decoder
        self.__dict__.pop("digest", None)

    def decode_on_device(self) -> None:
        """If a decoder is set, decode all images on the decoder's GPU, which then also crops and resizes them.

        Raises:
            UnreadableImageError: if an image cannot be decoded; the message contains the image's path.
            RunError: if the GPU has too little memory.

        """
        if self.decoder and not self.is_on_device:
            paths = tqdm(self.paths, "decoding images", leave=False, disable=not sys.stderr.isatty())
            try:
                self._stored = DevicePixels.gathered(self.decoder.groups(paths, self.short_side, self.grey_range))
            except torch.OutOfMemoryError as error:
                device = self.decoder.device
                raise RunError(
                    f"decoded images do not fit on {device}: lower data.device_gb, or choose data.decoder=pillow."
                ) from error

    @property
    def is_on_device(self) -> bool:
        return isinstance(self._stored, DevicePixels)

    def with_transform(self, transform: Transform, short_side: int, grey_range: GreyRange) -> "ClassFolders":
        """Return a copy with another transform, `short_side` and `grey_range`."""
        same = copy.copy(self)
        same.transform, same.short_side, same.grey_range = transform, short_side, grey_range
        return same


def class_samples(files: Walk, classes: Sequence[str]) -> list[Sample]:
    """Return (path, class index) of the images in the folders named in `classes`, ordered by class name."""
    labels = {name: label for label, name in enumerate(classes)}
    folders = [(folder.partition(os.sep)[0], folder) for folder in files.files if folder]
    return [
        (path, labels[name])
        for name, folder in sorted(folders)
        if name in labels
        for path in files.paths_in(folder)
        if is_image(path)
    ]


def _refuse_empty_classes(files: Walk, classes: Sequence[str], labels: Collection[int]) -> None:
    empty = [name for label, name in enumerate(classes) if label not in labels]
    if not empty:
        return
    elsewhere = [name for name in empty if name in files.repeated]
    reason = f" ({listed(elsewhere)}: a link to a folder that is read elsewhere)" if elsewhere else ""
    needed = what_to_install(files.paths())
    raise UserError(
        f"no images in {listed(files.root / name for name in empty)}{reason}: each class needs at least one file "
        f"ending in {', '.join(EXTENSIONS)}{needed and f'; {needed}'}."
    )
