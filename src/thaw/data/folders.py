"""A split of a data set: one folder per class, images inside."""

import copy
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Sampler, default_collate
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

from thaw.data.digests import READING, code_version, contents_digest, digest_of
from thaw.data.grey import GreyRange
from thaw.data.images import load_rgb
from thaw.data.pixels import StoredPixels, bytes_needed, stored_pixels
from thaw.data.turning import Crop, finished
from thaw.errors import UserError

Key = int | tuple[int, int]
Sample = tuple[str, int]  # a path and the index of its class


class ClassFolders(ImageFolder):
    """An ImageFolder whose classes are `classes` in that order, whatever the order of the folders.

    An item, what `transform` gives and a label, is asked for by its index, or by (index, seed) where its random
    transforms are to depend on the seed alone: not on the worker that loads it, nor on what was loaded before. Images
    are read with `short_side` and `grey_range` as `thaw.data.images.load_rgb` does.

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
    ):
        self._expected = list(classes)
        empty = [name for name in classes if not any(_images(root / name))]
        if empty:
            raise UserError(
                f"no images in {listed(root / name for name in empty)}: each class needs at least one file "
                f"ending in {', '.join(IMG_EXTENSIONS)}."
            )
        super().__init__(str(root), transform=transform)
        self.found = set(self.paths)  # whichever of them are kept
        self.short_side, self.grey_range = short_side, grey_range
        self._stored: StoredPixels | None = None

    def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
        return self._expected, {name: index for index, name in enumerate(self._expected)}

    def __getitem__(self, key: Key) -> tuple[torch.Tensor | Crop, int]:
        if isinstance(key, int):
            return self.transform(self._read(key)), self.targets[key]
        index, seed = key
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return self[index]

    def picture(self, key: Key) -> tuple[torch.Tensor, int]:
        """An item as the net sees it: uint8 (3, S, S), turned if it is to be, and its label."""
        (image,), (label,) = finished(default_collate([self[key]]))
        return image, int(label)

    def _read(self, index: int) -> Image.Image:
        if self._stored is not None:
            return self._stored[index]
        return load_rgb(self.samples[index][0], self.short_side, grey_range=self.grey_range)

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.samples]

    @cached_property
    def contents(self) -> str:
        """Of every file in order, a digest."""
        return contents_digest(self.paths)

    @cached_property
    def digest(self) -> str:
        """Of all that decides the items, but for their seeds and labels: equal in every process."""
        code = code_version(*READING, "transforms", "turning", "folders")
        return digest_of(self.contents, self.short_side, self.grey_range, repr(self.transform), code)

    def keep_share(self, share: float, seed: int) -> None:
        """Of each class that share of its images, at least one; what a smaller share keeps, a larger one keeps, too."""
        random, targets, kept = np.random.default_rng(seed), np.array(self.targets), []
        for label in range(len(self._expected)):
            (own,) = np.nonzero(targets == label)
            kept += sorted(random.permutation(own)[: max(1, round(share * len(own)))].tolist())
        self.keep([self.samples[index] for index in kept])

    def keep(self, samples: Sequence[Sample]) -> None:
        """Have these images, in this order, instead of all that the folder holds."""
        self.samples = self.imgs = list(samples)
        self.targets = [label for _, label in self.samples]

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
        for name in ("contents", "digest"):
            few.__dict__.pop(name, None)
        if len(self) > most:
            few.keep([self.samples[place] for place in np.linspace(0, len(self) - 1, most).round().astype(int)])
            few._stored = None
        return few

    def bytes_decoded(self) -> int:
        """That `keep_decoded` needs."""
        return bytes_needed(self.paths, self.short_side)

    def keep_decoded(self, size: int, max_size: float) -> None:
        """Read images from the cache from now on, of whose `max_size` bytes they take `size`, if they can be there."""
        given = self.paths, self.contents, self.short_side, size, max_size, self.grey_range
        self._stored = stored_pixels(*given)

    def ignored(self) -> list[Path]:
        """Visible files that are not read, for their ending or for lying outside of a class folder."""
        everything = (path for path in Path(self.root).rglob("*") if path.is_file())
        return sorted(path for path in everything if str(path) not in self.found and not path.name.startswith("."))


class SeededOrder(Sampler):
    """A shuffled epoch as (index, seed) pairs, fixed by `seed` and the epoch that Lightning sets.

    Of several processes each takes every `processes`-th, from `rank` on, so that their batches together are those of
    one process. A last batch of `batch_size` with too few images for all of them is left out. With `chances`, a number
    for each image, images are drawn with replacement.
    """

    def __init__(
        self,
        size: int,
        seed: int,
        batch_size: int = 1,
        rank: int = 0,
        processes: int = 1,
        chances: Sequence[float] | None = None,
    ):
        rest = size % batch_size
        self.size = size
        self.seed = seed
        self.epoch = 0
        self._skipped: tuple[int, int] | None = None  # an epoch, and how many images of it
        self._local_batch_size = batch_size // processes
        self._chances = None if chances is None else np.array(chances) / sum(chances)
        self._mine = slice(rank, size - rest if rest < processes else size, processes)

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


def find_classes(root: Path) -> list[str]:
    """The visible folders in `root`, sorted: a class each.

    Raises:
        UserError: if `root` is not a folder.

    """
    if not root.is_dir():
        beside = sorted(path.name for path in root.parent.iterdir()) if root.parent.is_dir() else []
        there = f"{root.parent} holds {listed(beside)}" if beside else f"{root.parent} does not exist or is empty"
        raise UserError(
            f"there is no folder {root}: data.root needs train/ and val/ with a folder per class, "
            f"or nothing but a folder per class, of which Thaw draws validation images; {there}."
        )
    return sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def aligned_classes(train: Path, val: Path) -> list[str]:
    """The class names of both splits.

    Raises:
        UserError: if the splits' classes differ or are fewer than two.

    """
    classes = find_classes(train)
    refuse_other_classes(train, classes, val)
    if len(classes) < 2:
        found = f"only {classes[0]!r}" if classes else "none"
        raise UserError(f"at least two classes (folders) are needed to tell apart in {train}, and there is {found}.")
    return classes


def refuse_other_classes(folder: Path, classes: Sequence[str], split: Path) -> None:
    """Compare the class folders of `split` with the `classes` of `folder`.

    Raises:
        UserError: if they differ, or there is no such split.

    """
    others = find_classes(split)
    differences = {folder: set(classes) - set(others), split: set(others) - set(classes)}
    told = " and ".join(f"{listed(sorted(names))} only in {place}" for place, names in differences.items() if names)
    if told:
        raise UserError(f"{folder.name} and {split.name} must have the same class folders, but there is {told}.")


def _images(folder: Path):
    return (path for path in folder.rglob("*") if path.suffix.lower() in IMG_EXTENSIONS and path.is_file())


def listed(names: Iterable[object], most: int = 12) -> str:
    names = [str(name) for name in names]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
