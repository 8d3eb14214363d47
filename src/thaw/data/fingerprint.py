"""Fingerprints of a run's images: Thaw resumes a run only if the run's images have not changed."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from thaw.data.folders import ClassFolders
from thaw.errors import UserError
from thaw.pages.text import listed
from thaw.runs.configuration import is_run, read_resolved
from thaw.storage.checkpoints import read_checkpoint


def fingerprint(classes: Sequence[str], splits: Mapping[str, ClassFolders]) -> dict:
    """Return a dict that changes if the classes change, or any image's content, class, split or position."""
    return {"classes": list(classes), "splits": {name: _split(classes, images) for name, images in splits.items()}}


def _split(classes: Sequence[str], images: ClassFolders) -> dict:
    counts, several = images.label_sets.counts(images.targets), images.label_sets.several
    labels = [images.label_sets.classes_of(label) for label in images.targets] if several else images.targets
    return {
        "counts": {name: counts[label] for label, name in enumerate(classes)},
        "labels": hashlib.sha256(repr(labels).encode()).hexdigest(),
        "contents": images.contents,
    }


def difference(before: dict, now: dict) -> str | None:
    """Return the first difference between two fingerprints, as a clause of an error message, or None if they agree."""
    if before["classes"] != now["classes"]:
        return f"the classes were {listed(before['classes'])}, and are {listed(now['classes'])} now"
    for name in sorted(before["splits"].keys() | now["splits"].keys()):
        old, new = (one["splits"].get(name) for one in (before, now))
        if old != new:
            was, is_now = _counted(old), _counted(new)
            changed = f"were {was}, and are {is_now} now"
            return f"the {name} images " + (changed if was != is_now else f"are still {was}, but not the same ones")
    return None


def _counted(split: dict | None) -> str:
    if split is None:
        return "none"
    counts = split["counts"]
    return f"{sum(counts.values())} ({listed(f'{count} {name}' for name, count in counts.items())})"


def refuse_other_data(run: Path, checkpoint: Path, now: dict, root: Path) -> None:
    """Raise UserError if `now`, the fingerprint of the images in `root`, differs from the one in `checkpoint`."""
    before = read_checkpoint(checkpoint).get("data")
    if before is None:
        _refuse_moved(run, root)
    changed = before and difference(before, now)
    if changed:
        raise UserError(
            f"resume={run}: the images in data.root={root} differ from those that the run was trained on: "
            f"{changed}. Restore the former images, set data.root=… to their folder, or start a new run."
        )


def _refuse_moved(run: Path, root: Path) -> None:
    """Raise UserError if the run was trained on another folder: old checkpoints have no fingerprint to compare."""
    recorded = read_resolved(run)["data"].get("root") if is_run(run) else None
    if isinstance(recorded, str) and Path(recorded).expanduser() != root:
        raise UserError(
            f"resume={run}: the run was trained on data.root={recorded}. Its checkpoint does not record which "
            f"images were there, so Thaw cannot check that {root} holds the same images. Start a new run."
        )
