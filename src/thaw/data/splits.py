"""Which images are learned from and which are validated on: the folders say so, or a draw that is the same everywhere.

What is drawn depends on the contents of the files alone: not on their names or order, nor on a run's seed, so that runs
with different seeds can be compared on the same images.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thaw.data.folders import ClassFolders, Sample
from thaw.data.layout import layout
from thaw.errors import UserError

_SALT = b"Thaw divides images, version 1"


@dataclass(frozen=True)
class Split:
    """`samples` are some of the images in the folder of `whole`, or, where parts are drawn, in its neighbours."""

    whole: ClassFolders
    samples: list[Sample]


@dataclass(frozen=True)
class Splits:
    """`drawn` says how validation images were chosen, if folders did not do it."""

    classes: list[str]
    train: Split
    val: Split
    test: Split | None
    drawn: str | None


def read_splits(root: Path, val_fraction: float = 0.2, folds: int | None = None, fold: int = 0) -> Splits:
    """What `root` holds: `train/` and `val/`, or class folders alone, and in either case perhaps `test/`.

    Of class folders alone `val_fraction` of each class are validation images. With `folds`, all but test images are
    divided into so many parts, of which `fold`, counted from 0, is validated on. Copies of a file stay together.

    Raises:
        UserError: for folders or values that cannot be learned with.

    """
    _check(val_fraction, folds, fold)
    classes, folders, test = layout(root)
    parts = [ClassFolders(folder, classes, transform=None) for folder in folders]
    tested = _whole(ClassFolders(test, classes, transform=None)) if test else None
    if folds is None and len(folders) == 2:
        return Splits(classes, *map(_whole, parts), tested, None)
    samples = [sample for part in parts for sample in part.samples]
    copies = _copies([digest for part in parts for digest in part.digests])
    chosen, drawn = _drawn(classes, samples, copies, val_fraction, folds, fold)
    train = [sample for place, sample in enumerate(samples) if place not in chosen]
    val = [samples[place] for place in sorted(chosen)]
    return Splits(classes, Split(parts[0], train), Split(parts[-1], val), tested, drawn)


def _whole(images: ClassFolders) -> Split:
    return Split(images, images.samples)


def _check(val_fraction: float, folds: int | None, fold: int) -> None:
    if type(val_fraction) not in (int, float) or not 0 < val_fraction < 1:
        raise UserError(f"data.val_fraction={val_fraction!r} must be above 0 and below 1.")
    if folds is not None and (type(folds) is not int or folds < 2):
        raise UserError(f"data.folds={folds!r} must be null or a whole number of at least 2.")
    if folds is None and fold != 0:
        raise UserError(f"data.fold={fold!r} needs data.folds, the number of parts that the images are divided into.")
    if folds is not None and (type(fold) is not int or not 0 <= fold < folds):
        raise UserError(f"data.fold={fold!r} must be one of 0 to {folds - 1}, for data.folds={folds}.")


def _drawn(
    classes: Sequence[str],
    samples: Sequence[Sample],
    copies: Sequence[Sequence[int]],
    val_fraction: float,
    folds: int | None,
    fold: int,
) -> tuple[set[int], str]:
    """The places of the validation images, and how they were chosen."""
    if folds is None:
        parts, fold, asked = _parted(samples, copies, val_fraction), 0, f"data.val_fraction={val_fraction:g}"
        told = f"{100 * val_fraction:g} % of each class"
    else:
        parts, asked, told = _folded(samples, copies, folds), f"data.folds={folds}", f"fold {fold} of 0 to {folds - 1}"
    _refuse_missing_classes(classes, samples, parts, asked)
    return parts[fold], f"{told}, drawn by Thaw"


def _copies(digests: Sequence[bytes]) -> list[list[int]]:
    """The places of equal files together, in an order that follows from their contents."""
    together = defaultdict(list)
    for place, digest in enumerate(digests):
        together[hashlib.sha256(_SALT + digest).digest()].append(place)
    return [together[key] for key in sorted(together)]


def _parted(samples: Sequence[Sample], copies: Sequence[Sequence[int]], share: float) -> list[set[int]]:
    """The places of that share of each class, at least one image, and those of the rest."""
    labels = [label for _, label in samples]
    wanted = {label: max(1, round(share * count)) for label, count in Counter(labels).items()}
    chosen, taken = set(), Counter()
    for group in copies:
        own = [labels[place] for place in group]
        if all(taken[label] + own.count(label) <= wanted[label] for label in own):
            chosen.update(group)
            taken.update(own)
    for label in wanted.keys() - taken.keys():  # there are more copies of each image than are wanted
        chosen.update(min((group for group in copies if label in {labels[place] for place in group}), key=len))
    return [chosen, set(range(len(samples))) - chosen]


def _folded(samples: Sequence[Sample], copies: Sequence[Sequence[int]], folds: int) -> list[set[int]]:
    """The places of so many parts, over which each class is spread evenly."""
    labels = [label for _, label in samples]
    parts, counts = [set() for _ in range(folds)], [Counter() for _ in range(folds)]
    for group in sorted(copies, key=len, reverse=True):
        own = Counter(labels[place] for place in group)
        emptiest = min(range(folds), key=lambda part: (sum(counts[part][label] for label in own), counts[part].total()))
        parts[emptiest].update(group)
        counts[emptiest] += own
    return parts


def _refuse_missing_classes(
    classes: Sequence[str], samples: Sequence[Sample], parts: Sequence[set[int]], asked: str
) -> None:
    counts = [Counter(samples[place][1] for place in part) for part in parts]
    for label, name in enumerate(classes):
        if not all(count[label] for count in counts):
            raise UserError(
                f"{asked} cannot be: each part needs an image of {name!r}, of which there are too few different ones "
                f"({sum(count[label] for count in counts)} with their copies)."
            )
