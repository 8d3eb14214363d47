"""A run's folder: what an earlier run left in it, and `summary.json`, one page of facts, finished or not."""

import json
import logging
import os
import shutil
from pathlib import Path

FILE = "summary.json"
_FOLDERS = ("checkpoints", "figures", "tensorboard")
_FILES = (FILE, "metrics.csv", "predictions.csv")

log = logging.getLogger(__name__)


def write_summary(folder: Path, summary: dict) -> None:
    """Replace the folder's summary as a whole: a reader sees the old one or the new one."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{FILE}.part"
    part.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    os.replace(part, folder / FILE)


def has_finished(folder: Path) -> bool:
    """Whether a run in `folder` came to its end."""
    path = folder / FILE
    return path.is_file() and json.loads(path.read_text()).get("status") == "finished"


def make_room(folder: Path) -> None:
    """Remove what an earlier run left in `folder`, so that its files and those of the new run cannot be mixed up."""
    left = [path for name in (*_FOLDERS, *_FILES) if (path := folder / name).exists()]
    if left:
        log.info(f"{folder} holds an earlier run, which this one replaces")
    for path in left:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
