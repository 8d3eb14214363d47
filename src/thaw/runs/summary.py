"""Read and write `summary.json`, the results of a run, and remove the files that an earlier run left in a folder."""

import glob
import json
import re
from collections.abc import Iterator
from pathlib import Path

from thaw.runs import run_files
from thaw.runs.configuration import is_run, read_resolved
from thaw.storage.files import as_json, write_whole

_FOLDERS = (run_files.CHECKPOINTS, run_files.EVALUATION, run_files.FIGURES, run_files.TENSORBOARD)
_FIGURES = ("samples", "predictions", "confusion_matrix", "average_precision", "probe", "learning_rate_*")
# Patterns of the files that runs write. Other files in a run's folder belong to the user.
_OWN = (
    *(
        run_files.SUMMARY,
        run_files.TRACEBACK,
        run_files.METRICS,
        run_files.PREDICTIONS,
        run_files.TEST_PREDICTIONS,
        run_files.CORRUPTED_PREDICTIONS,
        run_files.GROUPS,
        run_files.TRACKERS,
    ),
    *(f"{run_files.FIGURES}/{name}.png" for name in _FIGURES),
    *(
        f"{run_files.TENSORBOARD}/{name}"
        for name in ("events.out.tfevents.*", "hparams.yaml", "projector_config.pbtxt", "[0-9]*/validation_images/*")
    ),
    *(f"{run_files.EVALUATION}/*/{name}" for name in ("evaluation.html", "evaluation.json", "predictions.csv")),
    *(f"{name}.part" for name in (run_files.BEST, run_files.LAST)),
)


def write_summary(folder: Path, summary: dict) -> None:
    """Replace the folder's summary atomically: a reader sees the old summary or the new one."""
    write_whole(folder / run_files.SUMMARY, as_json(summary, indent=2) + "\n")


def read_summary(folder: Path) -> dict:
    """Return the summary in `folder`, or an empty dict if no run there has ended."""
    path = folder / run_files.SUMMARY
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def has_finished(folder: Path) -> bool:
    return read_summary(folder).get("status") == "finished"


def remove_old_results(folder: Path) -> bool:
    """Remove the files of an earlier run from `folder`, so that they do not mix with those of a new run.

    Keep files that no run writes.

    Returns:
        whether any file was removed.

    """
    patterns = (*_OWN, *own_checkpoints(folder))
    left = {path for pattern in patterns for path in folder.glob(pattern) if not path.is_dir()}
    for path in left:
        path.unlink()
    return bool(left) | any([_remove_empty(folder / name) for name in _FOLDERS])


def _remove_empty(folder: Path) -> bool:
    """Remove `folder` and the folders below it that contain no files; return whether `folder` was removed."""
    if not folder.is_dir() or folder.is_symlink():
        return False
    for inner in list(folder.iterdir()):
        _remove_empty(inner)
    if any(folder.iterdir()):
        return False
    folder.rmdir()
    return True


def own_checkpoints(folder: Path) -> Iterator[str]:
    """Yield glob patterns, relative to `folder`, of the checkpoints that the run in `folder` wrote.

    The run's summary lists its checkpoints. A killed run has no summary, so its patterns follow from its configuration.
    Checkpoints with other names, such as a user's copies, do not match.
    """
    try:
        summary = read_summary(folder)
    except ValueError:
        summary = {}
    if "checkpoints" in summary:
        yield from map(glob.escape, summary["checkpoints"])
        return
    yield from (run_files.BEST, run_files.LAST)
    yield from map(glob.escape, [summary["checkpoint"]] if _lies_inside(summary.get("checkpoint", "/")) else [])
    callbacks = (read_resolved(folder).get("callbacks") or {}) if is_run(folder) else {}
    for callback in callbacks.values():
        place = (callback.get("dirpath") or "/") if isinstance(callback, dict) else "/"
        if _lies_inside(place):
            name = re.sub(r"\{[^}]*\}", "*", glob.escape(callback.get("filename") or "{epoch}-{step}"))
            yield f"{place}/{name}.ckpt"


def _lies_inside(path: str) -> bool:
    return not Path(path).is_absolute() and ".." not in Path(path).parts
