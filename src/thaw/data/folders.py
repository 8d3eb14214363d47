"""A split of a data set: one folder per class, images inside."""

import copy
import os
from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Sampler, default_collate
from torchvision.datasets import ImageFolder

from thaw.data.digests import digest_of, file_digests, joint_digest, reading_version
from thaw.data.endings import EXTENSIONS, is_image, what_to_install
from thaw.data.grey import GreyRange
from thaw.data.images import load_rgb
from thaw.data.pixel_cache import StoredPixels, bytes_needed, stored_pixels
from thaw.data.rotation import Crop, apply_augmentation
from thaw.data.walk import Walk, walk
from thaw.errors import UserError
from thaw.pages.text import listed
from thaw.storage.versions import TRANSFORMS

Key = int | tuple[int, int]
Sample = tuple[str, int]  # a path and the index of its class


class ClassFolders(ImageFolder):
    """The images of `root` whose classes are `classes` in that order, whatever the order of the folders.

    An item, what `transform` gives and a label, is asked for by its index, or by (index, seed) where its random
    transforms are to depend on the seed alone: not on the worker that loads it, nor on what was loaded before. Images
    are read with `short_side` and `grey_range` as `thaw.data.images.load_rgb` does. `files` is what was found in
    `root`, if that is known.

    Raises:
        UserError: from the constructor, if the folder is missing or a class is empty.

    """

    def __init__(
        self,
        root: Path,
        classes: Sequence[str],
        transform: Callable[[Image.Image], torch.Tensor | Crop],
        short_side: int | None = None,
        grey_range: GreyRange = None,
        files: Walk | None = None,
    ):
        files = files or walk(root)
        self._expected, self._every_sample = list(classes), class_samples(files, classes)
        _refuse_empty_classes(files, classes, {label for _, label in self._every_sample})
        super().__init__(str(root), transform=transform)
        self.short_side, self.grey_range = short_side, grey_range
        self.found = set(self.paths)  # whichever of them are kept
        self.repeated = [os.path.join(root, link) for link in files.repeated]
        self._ignored = sorted(set(files.paths()) - self.found)
        self._stored: StoredPixels | None = None

    def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
        return self._expected, {name: label for label, name in enumerate(self._expected)}

    def make_dataset(self, *given, **rest) -> list[Sample]:
        """The samples of Thaw's own walk: torchvision's reads hidden files, and linked folders as often as they are."""
        return self._every_sample

    def __getitem__(self, key: Key) -> tuple[torch.Tensor | Crop, int]:
        if isinstance(key, int):
            return self.transform(self._read(key)), self.targets[key]
        index, seed = key
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return self[index]

    def picture(self, key: Key) -> tuple[torch.Tensor, int]:
        """An item as the net sees it: uint8 (3, S, S), turned if it is to be, and its label."""
        (image,), (label,) = apply_augmentation(default_collate([self[key]]))
        return image, int(label)

    def _read(self, index: int) -> Image.Image:
        if self._stored is not None:
            return self._stored[index]
        return load_rgb(self.samples[index][0], self.short_side, grey_range=self.grey_range)

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.samples]

    @cached_property
    def digests(self) -> list[bytes]:
        """Of every file in order, the SHA-256."""
        return file_digests(self.paths)

    @cached_property
    def contents(self) -> str:
        """Of every file in order, a digest."""
        return joint_digest(self.digests)

    @cached_property
    def digest(self) -> str:
        """Of all that decides the items, but for their seeds and labels: equal in every process."""
        code = reading_version(TRANSFORMS)
        return digest_of(self.contents, self.short_side, self.grey_range, repr(self.transform), code)

    def keep_share(self, share: float, seed: int) -> None:
        """Of each class that share of its images, at least one; what a smaller share keeps, a larger one keeps, too."""
        random, targets, kept = np.random.default_rng(seed), np.array(self.targets), []
        for label in range(len(self.classes)):
            (own,) = np.nonzero(targets == label)
            kept += sorted(random.permutation(own)[: max(1, round(share * len(own)))].tolist())
        self.keep([self.samples[index] for index in kept])

    def keep(self, samples: Sequence[Sample]) -> None:
        """Have these images, in this order, instead of all that the folder holds."""
        known = dict(zip(self.paths, self.digests, strict=True)) if "digests" in self.__dict__ else {}
        self.samples = self.imgs = list(samples)
        self.targets = [label for _, label in self.samples]
        for name in ("digests", "contents", "digest"):
            self.__dict__.pop(name, None)
        if known and known.keys() >= set(self.paths):
            self.digests = [known[path] for path in self.paths]

    def seen_as(self, other: "ClassFolders") -> "ClassFolders":
        """The same images, read and transformed as those of `other` are."""
        same = copy.copy(self)
        same.__dict__.pop("digest", None)
        same.transform = other.transform
        if same.short_side != other.short_side:
            same.short_side, same._stored = other.short_side, None
        return same

    def some(self, most: int) -> "ClassFolders":
        """At most so many of the images, evenly spread over them."""
        few = copy.copy(self)
        if len(self) > most:
            few.keep([self.samples[place] for place in np.linspace(0, len(self) - 1, most).round().astype(int)])
            few._stored = None
        return few

    def bytes_decoded(self) -> int:
        """That `keep_decoded` needs."""
        return bytes_needed(self.paths, self.contents, self.short_side)

    def keep_decoded(self, size: int, max_size: float) -> None:
        """Read images from the cache from now on, of whose `max_size` bytes they take `size`, if they can be there."""
        given = self.paths, self.contents, self.short_side, size, max_size, self.grey_range
        self._stored = stored_pixels(*given)

    def ignored(self) -> list[str]:
        """Visible files that are not read, for their ending or for lying outside of a class folder."""
        return self._ignored

    def prepared(
        self, transform: Callable[[Image.Image], torch.Tensor | Crop], short_side: int, grey_range: GreyRange
    ) -> "ClassFolders":
        """The same images with another transform, read in another way."""
        same = copy.copy(self)
        same.transform, same.short_side, same.grey_range = transform, short_side, grey_range
        return same


class SeededOrder(Sampler):
    """A shuffled epoch as (index, seed) pairs, fixed by `seed` and the epoch that Lightning sets.

    Of several processes each takes every `processes`-th, from `rank` on, so that their batches together are those of
    one process. A last batch of `batch_size` with less than `fewest` images for each of them is left out. With
    `chances`, a number for each image, images are drawn with replacement.
    """

    def __init__(
        self,
        size: int,
        seed: int,
        batch_size: int = 1,
        rank: int = 0,
        processes: int = 1,
        chances: Sequence[float] | None = None,
        fewest: int = 1,
    ):
        rest = size % batch_size
        self.size = size
        self.seed = seed
        self.epoch = 0
        self._skipped: tuple[int, int] | None = None  # an epoch, and how many images of it
        self._local_batch_size = batch_size // processes
        self._chances = None if chances is None else np.array(chances) / sum(chances)
        self._mine = slice(rank, size - rest if rest < fewest * processes else size, processes)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def skip(self, epoch: int, batches: int) -> None:
        """Begin that epoch after so many batches, whenever it comes."""
        self._skipped = epoch, batches * self._local_batch_size

    def __len__(self) -> int:
        return len(range(self.size)[self._mine])

    def __iter__(self):
        random = np.random.default_rng((self.seed, self.epoch))
        if self._chances is None:
            order = random.permutation(self.size)
        else:
            order = random.choice(self.size, self.size, p=self._chances)
        seeds = random.integers(2**63, size=self.size)
        epoch, skipped = self._skipped or (None, 0)
        rest = slice(skipped if epoch == self.epoch else 0, None)
        return zip(order[self._mine][rest].tolist(), seeds[self._mine][rest].tolist(), strict=True)


def class_samples(files: Walk, classes: Sequence[str]) -> list[Sample]:
    """Return the images in the folders `classes`, class by class in the order of their names."""
    labels = {name: label for label, name in enumerate(classes)}
    folders = [(folder.partition(os.sep)[0], folder) for folder in files.files if folder]
    return [
        (path, labels[name])
        for name, folder in sorted(folders)
        if name in labels
        for path in files.paths_in(folder)
        if is_image(path)
    ]


def _refuse_empty_classes(files: Walk, classes: Sequence[str], there: Collection[int]) -> None:
    empty = [name for label, name in enumerate(classes) if label not in there]
    if not empty:
        return
    elsewhere = [name for name in empty if name in files.repeated]
    told = f" ({listed(elsewhere)}: a link to a folder that is read in another place)" if elsewhere else ""
    needed = what_to_install(files.paths())
    raise UserError(
        f"no images in {listed(files.root / name for name in empty)}{told}: each class needs at least one file ending "
        f"in {', '.join(EXTENSIONS)}{needed and f'; {needed}'}."
    )
