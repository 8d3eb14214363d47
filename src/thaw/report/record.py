"""A run's folder: what an earlier run left in it, and `summary.json`, one page of facts, finished or not."""

import json
import shutil
from pathlib import Path

from thaw.files import as_json, whole_file

FILE = "summary.json"
_FOLDERS = ("checkpoints", "evaluation", "figures", "tensorboard")
TRACEBACK = "traceback.txt"
_FILES = (FILE, TRACEBACK, "metrics.csv", "predictions.csv", "test_predictions.csv")


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


def make_room(folder: Path) -> bool:
    """Remove what an earlier run left in `folder`, lest its files and those of a new run be mixed up.

    Returns whether there was anything.
    """
    left = [path for name in (*_FOLDERS, *_FILES) if (path := folder / name).exists()]
    for path in left:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return bool(left)
