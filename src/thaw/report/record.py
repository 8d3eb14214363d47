"""`summary.json`: one page of facts per run, finished or not."""

import json
import os
from pathlib import Path

FILE = "summary.json"


def write_summary(folder: Path, summary: dict) -> None:
    """Replace the folder's summary as a whole: a reader sees the old one or the new one."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{FILE}.part"
    part.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    os.replace(part, folder / FILE)
