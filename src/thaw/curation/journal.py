"""Journal file with the results of image inspections, so that an interrupted command can continue."""

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from thaw.curation.inspection import Inspection, inspect_all
from thaw.curation.similarity import SIDE


def inspected(root: Path, paths: Sequence[Path], journal: Path, title: str) -> list[Inspection]:
    """Inspect the files `paths` below `root`, in order. The results of unchanged files are read from `journal`."""
    stamps = {path: file_stamp(root / path) for path in paths}
    known = {path: found for path, stamp, found in _read(journal, root) if stamps.get(path) == stamp}
    left = [path for path in paths if path not in known]
    with journal.open("a") as file:
        for path, found in zip(left, inspect_all([root / path for path in left], title), strict=True):
            known[path] = found
            file.write(_line(path, stamps[path], found))
    return [known[path] for path in paths]


def file_stamp(path: Path) -> list[int]:
    """Return a file's size and modification time in ns, or [] if the file is not readable, like a broken link."""
    try:
        facts = path.stat()
    except OSError:
        return []
    return [facts.st_size, facts.st_mtime_ns]


def _line(path: Path, stamp: list[int], found: Inspection) -> str:
    values = asdict(found) | {"path": str(path), "stamp": stamp}
    thumbnail = values.pop("thumbnail")
    values["marks"] = thumbnail  # older versions use this key for the thumbnail
    if thumbnail is not None:
        values["marks"] = [thumbnail.shape, base64.b64encode(thumbnail.tobytes()).decode()]
    return json.dumps(values) + "\n"


def _read(journal: Path, root: Path) -> Iterator[tuple[Path, list[int], Inspection]]:
    if not journal.is_file():
        return
    with journal.open() as file:
        for line in file:
            try:
                values = json.loads(line)
            except json.JSONDecodeError:  # the end of an interrupted write
                continue
            path, stamp, thumbnail = Path(values["path"]), values.pop("stamp"), values.pop("marks")
            if thumbnail:
                shape, content = thumbnail
                if tuple(shape) != (SIDE, SIDE):  # the thumbnail size of an older version
                    continue
                thumbnail = np.frombuffer(base64.b64decode(content), np.float16).reshape(shape)
            yield path, stamp, Inspection(**values | {"path": root / path, "thumbnail": thumbnail})
