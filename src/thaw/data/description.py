"""What a run says of its images before it starts."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from thaw.data.endings import what_to_install
from thaw.data.folders import ClassFolders
from thaw.pages.text import printable, shown

_NAMED = 3
_NAMES = {"val": "validation", "test": "test"}


def described(
    root: Path, splits: Mapping[str, ClassFolders], share: str, drawn: str | None, skipped: Mapping[str, Sequence[str]]
) -> str:
    """One paragraph: where the images are, how many of which class, how they are divided, and what is not read.

    `share` and `drawn` say which images are trained on and validated on, `skipped` which cannot be decoded.
    """
    classes = splits["train"].classes
    names = ", ".join(map(shown, classes[:10])) + (", …" if len(classes) > 10 else "")
    text = f"{root}: {len(splits['train'])} training{share} and {len(splits['val'])} validation images "
    text += f"of {len(classes)} classes ({names})"
    text += f", validated on {drawn}" if drawn else ""
    text += f", and {len(splits['test'])} test images" if "test" in splits else ""
    text += _seen_in_training(splits)
    ignored = _ignored(splits.values())
    needed = what_to_install(ignored)
    text += _told("not read, for they do not end like images", ignored, root) + (f" ({needed})" if needed else "")
    repeated = sorted({path for images in splits.values() for path in images.repeated})
    text += _told("links not followed, for the folder holds them or is read in another place", repeated, root)
    bad = sorted({path for paths in skipped.values() for path in paths})
    counts = " and ".join(f"{len(paths)} of {name}" for name, paths in skipped.items() if paths)
    return text + _told(f"skipped, for they cannot be decoded, {counts}", bad, root)


def _seen_in_training(splits: Mapping[str, ClassFolders]) -> str:
    """How many images of the other splits are training images, too, as equal files."""
    trained = set(splits["train"].digests)
    counts = {
        name: sum(digest in trained for digest in images.digests) for name, images in splits.items() if name != "train"
    }
    told = " and ".join(f"{count} {_NAMES[name]}" for name, count in counts.items())
    where = " (scripts/audit_data.py names them)" if any(counts.values()) else ""
    return f"; also in training, byte for byte: {told} images{where}"


def _ignored(splits: Sequence[ClassFolders]) -> list[str]:
    """Of splits one of which may lie inside another's folder."""
    read = set().union(*(images.found for images in splits))
    return sorted({path for images in splits for path in images.ignored()} - read)


def _told(what: str, paths: Sequence[str], root: Path) -> str:
    if not paths:
        return ""
    named = ", ".join(printable(os.path.relpath(path, root)) for path in paths[:_NAMED])
    return f"; {what}: {named}" + (f", … ({len(paths)} in all)" if len(paths) > _NAMED else "")
