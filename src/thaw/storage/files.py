"""Files that are whole or not there, and names in them that are not UTF-8."""

import csv
import json
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """A text file to write, which replaces `path` when it is complete and leaves nothing behind when it fails.

    Names of files that are no UTF-8 are written as the bytes that they are. A link stays one; what is no file, as
    /dev/stdout, is written to as it is.
    """
    path = Path(os.path.realpath(path)) if path.is_symlink() and path.is_file() else path
    if path.exists() and not path.is_file():
        with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            yield file
        return
    part = path.with_name(f".{uuid.uuid4().hex}.part")  # no file of anybody else's has this name
    try:
        with part.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            yield file
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def as_json(values: object, indent: int | None = None) -> str:
    """Return JSON whose characters are as they are; bytes of names that are no characters are escaped."""
    text = json.dumps(values, indent=indent, ensure_ascii=False)
    return re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file, with names as the bytes that they are."""
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))
