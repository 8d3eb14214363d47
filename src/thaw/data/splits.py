"""Training, validation and test splits, from folders or drawn at random by Thaw.

A split that Thaw draws depends only on the contents of the files, not on their names or order, nor on a run's seed.
Runs with different seeds are therefore validated on the same images.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from thaw.data.connected_groups import groups as connected
from thaw.data.folders import ClassFolders, Sample
from thaw.data.label_sets import ONE_CLASS, LabelSets
from thaw.data.label_strata import divided
from thaw.data.layout import layout
from thaw.data.tabled_splits import tabled_images
from thaw.errors import UserError
from thaw.pages.text import amount

_SALT = b"Thaw divides images, version 1"


@dataclass(frozen=True)
class Split:
    """`samples` are a split's images; `whole` is its folder. With `folds`, images can come from several folders."""

    whole: ClassFolders
    samples: list[Sample]

    @property
    def digests(self) -> list[bytes]:
        """Return the digest of each sample's file."""
        known = dict(zip(self.whole.paths, self.whole.digests, strict=True))
        return [known[path] for path, _ in self.samples]


@dataclass(frozen=True)
class Splits:
    """All splits of a data set. If Thaw drew the validation images at random, `split_note` says how.

    `groups` maps the paths of images to their groups; images without a group are missing. `label_sets` says which
    classes a sample's label stands for.
    """

    classes: list[str]
    train: Split
    val: Split
    test: Split | None
    split_note: str | None
    groups: Mapping[str, str]
    label_sets: LabelSets


def read_splits(
    root: Path,
    val_fraction: float = 0.2,
    folds: int | None = None,
    fold: int = 0,
    val_as_test: bool = False,
    test: bool = True,
    table: str | Path | None = None,
) -> Splits:
    """Return the splits in `root`, which has `train/` and `val/`, or only class folders, and can also have `test/`.

    With `table`, the file of this name says which images in `root` belong to which class, split and group.

    Without `train/` and `val/`, the share `val_fraction` of each class becomes the validation split. With `folds`, all
    images except test images are divided into that many parts, and part `fold`, counted from 0, is the validation
    split. Copies of a file, and images of a group, stay in the same split.

    With `val_as_test`, the validation images become the test images. New validation images are then drawn from the
    training images, by `folds` or `val_fraction`. If `test` is False, the result has no test images.

    Raises:
        UserError: if the folders or values cannot be used.

    """
    check_division(val_fraction, folds, fold)
    found = _from_table(root, table) if table else _from_folders(root)
    splits, tested = found.splits, found.test
    if val_as_test:
        if tested:
            raise UserError(f"data.val_as_test=true: {root} has test images already; leave the option out.")
        train, tested = splits if len(splits) == 2 else _drawn(found, splits, val_fraction, None, 0)[:2]
        splits = [train]
    train, val, note = (
        (*splits, None) if folds is None and len(splits) == 2 else _drawn(found, splits, val_fraction, folds, fold)
    )
    return Splits(found.classes, train, val, tested if test else None, note, found.groups, found.label_sets)


@dataclass(frozen=True)
class _Found:
    """Images as they are on disk: `splits` has all images, or those for training and those for validation."""

    classes: list[str]
    splits: list[Split]
    test: Split | None
    groups: Mapping[str, str]
    label_sets: LabelSets = ONE_CLASS


def _from_folders(root: Path) -> _Found:
    classes, folders, test_folder = layout(root)
    read = [_read(folder, classes) for folder in folders]
    return _Found(classes, read, test_folder and _read(test_folder, classes), {})


def _from_table(root: Path, table: str | Path) -> _Found:
    found = tabled_images(table, root)
    splits = {
        name: Split(ClassFolders(root, found.classes, samples=samples, label_sets=found.label_sets), samples)
        for name, samples in found.samples.items()
    }
    tested = splits.pop("test", None)
    ordered = [splits[name] for name in ("", "train", "val") if name in splits]
    return _Found(found.classes, ordered, tested, found.groups, found.label_sets)


def _drawn(
    found: _Found, splits: Sequence[Split], val_fraction: float, folds: int | None, fold: int
) -> tuple[Split, Split, str]:
    """Divide the images of `splits`; return the training split, the validation split and the `split_note`."""
    samples = [sample for split in splits for sample in split.samples]
    digests = [digest for split in splits for digest in split.digests]
    copies = _inseparable(digests, [found.groups.get(path) for path, _ in samples])
    if folds is None:
        shares, option = [val_fraction, 1 - val_fraction], f"data.val_fraction={val_fraction:g}"
        note = f"{100 * val_fraction:g} % of each class, drawn by Thaw"
    else:
        shares, option = [1 / folds] * folds, f"data.folds={folds}"
        note = f"fold {fold} of 0 to {folds - 1}, drawn by Thaw"
    if found.label_sets.several:
        parts = divided([found.label_sets.classes_of(label) for _, label in samples], copies, shares)
    elif folds is None:
        parts = _divided_once(samples, copies, val_fraction)
    else:
        parts = _divided_into_folds(samples, copies, folds)
    _refuse_missing_classes(found, samples, parts, copies, option)
    chosen = parts[fold or 0]
    train = [sample for index, sample in enumerate(samples) if index not in chosen]
    val = [samples[index] for index in sorted(chosen)]
    return Split(splits[0].whole, train), Split(splits[-1].whole, val), note


def _read(folder: Path, classes: Sequence[str]) -> Split:
    images = ClassFolders(folder, classes)
    return Split(images, images.samples)


def check_division(val_fraction: float, folds: int | None, fold: int) -> None:
    """Raise UserError if these options of `read_splits` are invalid whatever the data set."""
    if type(val_fraction) not in (int, float) or not 0 < val_fraction < 1:
        raise UserError(f"data.val_fraction={val_fraction!r} must be above 0 and below 1.")
    if folds is not None and (type(folds) is not int or folds < 2):
        raise UserError(f"data.folds={folds!r} must be null or a whole number of at least 2.")
    if folds is None and fold != 0:
        raise UserError(f"data.fold={fold!r} needs data.folds, the number of parts.")
    if folds is not None and (type(fold) is not int or not 0 <= fold < folds):
        raise UserError(
            f"data.fold={fold!r} must be a whole number from 0 to {folds - 1}; "
            f"'data.fold=range({folds})' runs all {folds} folds."
        )


def _inseparable(digests: Sequence[bytes], groups: Sequence[str | None]) -> list[list[int]]:
    """Join the indices of identical files, and of images in the same group.

    The order of the result depends only on the contents of the files.
    """
    keys = [hashlib.sha256(_SALT + digest).digest() for digest in digests]
    first: dict[bytes | str, int] = {}
    pairs = [
        (first.setdefault(shared, index), index)
        for index, both in enumerate(zip(keys, groups, strict=True))
        for shared in both
        if shared
    ]
    return sorted(connected(len(keys), pairs), key=lambda indices: min(keys[index] for index in indices))


def _divided_once(samples: Sequence[Sample], copies: Sequence[Sequence[int]], share: float) -> list[set[int]]:
    """Return the indices of the given share of each class (at least one image), and the indices of all other images."""
    labels = [label for _, label in samples]
    wanted = {label: max(1, round(share * count)) for label, count in Counter(labels).items()}
    chosen, taken = set(), Counter()
    for group in copies:
        own = [labels[index] for index in group]
        if all(taken[label] + own.count(label) <= wanted[label] for label in own):
            chosen.update(group)
            taken.update(own)
    for label in wanted.keys() - taken.keys():  # in these classes, each image has more copies than may be chosen
        chosen.update(min((group for group in copies if label in {labels[index] for index in group}), key=len))
    return [chosen, set(range(len(samples))) - chosen]


def _divided_into_folds(samples: Sequence[Sample], copies: Sequence[Sequence[int]], folds: int) -> list[set[int]]:
    labels = [label for _, label in samples]
    parts, counts = [set() for _ in range(folds)], [Counter() for _ in range(folds)]
    for group in sorted(copies, key=len, reverse=True):
        own = Counter(labels[index] for index in group)
        emptiest = min(range(folds), key=lambda part: (sum(counts[part][label] for label in own), counts[part].total()))
        parts[emptiest].update(group)
        counts[emptiest] += own
    return parts


def _refuse_missing_classes(
    found: _Found,
    samples: Sequence[Sample],
    parts: Sequence[set[int]],
    copies: Sequence[Sequence[int]],
    option: str,
) -> None:
    counts = [found.label_sets.counts(samples[index][1] for index in part) for part in parts]
    for label, name in enumerate(found.classes):
        if all(count[label] for count in counts):
            continue
        own = [any(label in found.label_sets.classes_of(samples[index][1]) for index in unit) for unit in copies]
        images, units = amount(sum(count[label] for count in counts), "image"), sum(own)
        apart = f" ({units} apart: copies of an image, and images of a group, stay in one part)"
        raise UserError(
            f"{option} is not possible: each of {len(parts)} parts needs an image of {name!r}, which has only "
            f"{images}{apart}. Add images, or leave the class out."
        )
