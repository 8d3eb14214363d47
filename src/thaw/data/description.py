"""What a run says of its images before it starts."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from thaw.data.folders import ClassFolders
from thaw.report.text import shown

_NAMED = 3


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
    ignored = _ignored(splits.values())
    text += f"; not read, for they do not end like images: {_named(ignored, root)}" if ignored else ""
    bad = sorted({Path(path) for paths in skipped.values() for path in paths})
    counts = " and ".join(f"{len(paths)} of {name}" for name, paths in skipped.items() if paths)
    text += f"; skipped, for they cannot be decoded, {counts}: {_named(bad, root)}" if bad else ""
    return text


def _ignored(splits: Sequence[ClassFolders]) -> list[Path]:
    """Of splits one of which may lie inside another's folder."""
    read = set().union(*(images.found for images in splits))
    return sorted({path for images in splits for path in images.ignored() if str(path) not in read})


def _named(paths: Sequence[Path], root: Path) -> str:
    shown = ", ".join(str(path.relative_to(root)) for path in paths[:_NAMED])
    return shown + (f", … ({len(paths)} in all)" if len(paths) > _NAMED else "")
