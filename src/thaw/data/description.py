"""Describe a run's images in one paragraph, which is printed before the run starts."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from thaw.data.endings import what_to_install
from thaw.data.folders import ClassFolders
from thaw.pages.text import amount, printable, shown

_PATHS_SHOWN = 3
_CLASSES_SHOWN = 10
_NAMES = {"val": "validation", "test": "test"}


def describe_images(
    root: Path, splits: Mapping[str, ClassFolders], share: str, note: str | None, skipped: Mapping[str, Sequence[str]]
) -> str:
    """Return one paragraph: folder, images per split, classes, copies across splits, and files that are not read.

    `share` says which share of the training images is in use; `note` says how Thaw drew the validation images.
    `skipped` maps each split to the paths of its undecodable images.
    """
    classes = splits["train"].classes
    names = ", ".join(map(shown, classes[:_CLASSES_SHOWN])) + (", …" if len(classes) > _CLASSES_SHOWN else "")
    text = f"{root}: {len(splits['train'])} training{share} and {len(splits['val'])} validation images "
    text += f"of {len(classes)} classes ({names})"
    text += _labels_per_image(splits["train"])
    text += f", validated on {note}" if note else ""
    text += f", and {len(splits['test'])} test images" if "test" in splits else ""
    counts = copies_in_training(splits)
    copies = " and ".join(amount(count, f"{_NAMES[name]} image") for name, count in counts.items())
    text += f"; exact copies of training images: {copies}"
    text += " (scripts/audit_data.py names them)" if any(counts.values()) else ""
    read = set().union(*(images.found for images in splits.values()))  # one split can ignore files that another reads
    ignored = sorted({path for images in splits.values() for path in images.ignored} - read)
    needed = what_to_install(ignored)
    text += _paths_with_reason("not read because they have no image file extension or no class folder", ignored, root)
    text += f" ({needed})" if needed else ""
    repeated = sorted({path for images in splits.values() for path in images.repeated})
    text += _paths_with_reason(
        "links not followed because the linked folder contains the link or is read elsewhere", repeated, root
    )
    bad = sorted({path for paths in skipped.values() for path in paths})
    skips = " and ".join(f"{len(paths)} of {name}" for name, paths in skipped.items() if paths)
    return text + _paths_with_reason(f"skipped because they cannot be decoded ({skips})", bad, root)


def _labels_per_image(images: ClassFolders) -> str:
    if not images.label_sets.several:
        return ""
    mean = images.label_sets.counts(images.targets).total() / len(images)
    return f", {mean:.1f} classes per image"


def copies_in_training(splits: Mapping[str, ClassFolders]) -> dict[str, int]:
    """Return, by split, how many validation or test files equal a training file byte for byte."""
    trained = set(splits["train"].digests)
    return {
        name: sum(digest in trained for digest in images.digests) for name, images in splits.items() if name != "train"
    }


def _paths_with_reason(reason: str, paths: Sequence[str], root: Path) -> str:
    if not paths:
        return ""
    named = ", ".join(printable(os.path.relpath(path, root)) for path in paths[:_PATHS_SHOWN])
    return f"; {reason}: {named}" + (f", … ({len(paths)} in all)" if len(paths) > _PATHS_SHOWN else "")
