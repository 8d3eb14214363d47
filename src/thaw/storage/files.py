"""Read and write text files: atomically, with file names that need not be UTF-8, and never from URLs."""

import csv
import io
import json
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from thaw.errors import UserError


def write_whole(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as `whole_file` does; create the parent folder if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(text)


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping]) -> None:
    """Write the `columns` of `rows` to a CSV file atomically, as `whole_file` does; other columns are left out."""
    text = io.StringIO()
    table = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_whole(path, text.getvalue())


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """Open a text file that replaces `path` when the `with` block ends; after an exception, `path` is unchanged.

    File names in the text that are not UTF-8 are written as their original bytes. If `path` is a symbolic link, the
    link's target is replaced. If `path` is not a regular file, such as /dev/stdout, it is written directly.
    """
    path = Path(os.path.realpath(path)) if path.is_symlink() and path.is_file() else path
    if path.exists() and not path.is_file():
        with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            yield file
        return
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with part.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            yield file
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def as_json(values: object, indent: int | None = None) -> str:
    """Return JSON that keeps non-ASCII characters, but escapes the bytes of file names that are not UTF-8."""
    text = json.dumps(values, indent=indent, ensure_ascii=False)
    return re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def is_remote(path: str) -> bool:
    return "://" in path


def refuse_remote(name: str, path: str) -> None:
    """Raise UserError if `path`, the value of the option `name`, is a URL: the content of a URL can change."""
    if is_remote(path):
        raise UserError(f"{name}={path} is a URL, and Thaw reads only local files: download the file first.")


def is_utf8(path: str | Path) -> bool:
    """Return whether `path` is valid UTF-8. Libraries that are not written in Python often cannot open other paths."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file; bytes that are not UTF-8 become surrogate characters."""
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))
