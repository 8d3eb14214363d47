"""Files that are whole or not there."""

import os
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
