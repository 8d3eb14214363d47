"""A run's folder: what an earlier run left in it, and `summary.json`, one page of facts, finished or not."""

import glob
import json
import re
from collections.abc import Iterator
from pathlib import Path

from thaw.runs.configuration import is_run, read_resolved
from thaw.storage.files import as_json, whole_file

FILE = "summary.json"
TRACEBACK = "traceback.txt"
_FOLDERS = ("checkpoints", "evaluation", "figures", "tensorboard")
# What runs write. Whatever else lies in a run's folder is its user's.
_OWN = (
    *(FILE, TRACEBACK, "metrics.csv", "predictions.csv", "test_predictions.csv"),
    *(f"figures/{name}.png" for name in ("samples", "predictions", "confusion_matrix", "probe", "learning_rate_*")),
    *(f"tensorboard/{name}" for name in ("events.out.tfevents.*", "hparams.yaml", "projector_config.pbtxt")),
    "tensorboard/[0-9]*/validation_images/*",
    *(f"evaluation/*/{name}" for name in ("evaluation.html", "evaluation.json", "predictions.csv")),
    *(f"checkpoints/{name}.ckpt.part" for name in ("best", "last")),
)


def write_summary(folder: Path, summary: dict) -> None:
    """Replace the folder's summary as a whole: a reader sees the old one or the new one."""
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / FILE) as file:
        file.write(as_json(summary, indent=2) + "\n")


def read_summary(folder: Path) -> dict:
    """Empty where no run in `folder` has come to an end."""
    path = folder / FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def has_finished(folder: Path) -> bool:
    """Whether a run in `folder` came to its end."""
    return read_summary(folder).get("status") == "finished"


def remove_old_results(folder: Path) -> bool:
    """Remove what an earlier run wrote into `folder`, lest its files and those of a new run be mixed up.

    Returns whether there was anything. Files that no run writes stay.
    """
    patterns = (*_OWN, *own_checkpoints(folder))
    left = {path for pattern in patterns for path in folder.glob(pattern) if not path.is_dir()}
    for path in left:
        path.unlink()
    return bool(left) | any([_remove_empty(folder / name) for name in _FOLDERS])


def _remove_empty(folder: Path) -> bool:
    """Remove `folder` and the folders in it, as far as no files are in them."""
    if not folder.is_dir() or folder.is_symlink():
        return False
    for inner in list(folder.iterdir()):
        _remove_empty(inner)
    if any(folder.iterdir()):
        return False
    folder.rmdir()
    return True


def own_checkpoints(folder: Path) -> Iterator[str]:
    """Yield patterns of the checkpoints that the run in `folder` has written there: a copy beside them is its user's.

    Its summary names them; where there is none, as of a run that was killed, they have the names that the run was
    configured with.
    """
    try:
        summary = read_summary(folder)
    except ValueError:
        summary = {}
    if "checkpoints" in summary:
        yield from map(glob.escape, summary["checkpoints"])
        return
    yield from ("checkpoints/best.ckpt", "checkpoints/last.ckpt")
    yield from map(glob.escape, [summary["checkpoint"]] if _lies_inside(summary.get("checkpoint", "/")) else [])
    callbacks = (read_resolved(folder).get("callbacks") or {}) if is_run(folder) else {}
    for callback in callbacks.values():
        place = (callback.get("dirpath") or "/") if isinstance(callback, dict) else "/"
        if _lies_inside(place):
            name = re.sub(r"\{[^}]*\}", "*", glob.escape(callback.get("filename") or "{epoch}-{step}"))
            yield f"{place}/{name}.ckpt"


def _lies_inside(path: str) -> bool:
    return not Path(path).is_absolute() and ".." not in Path(path).parts
