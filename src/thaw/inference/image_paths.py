"""Which images are meant: files, folders, patterns, and a list on standard input."""

import codecs
import glob
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TextIO

from thaw.data.endings import EXTENSIONS, is_image, what_to_install
from thaw.data.walk import walk
from thaw.errors import UserError

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def image_paths(named: Sequence[str], listed: TextIO) -> tuple[list[str], list[str]]:
    """The images that `named` stands for, each once and in order; a sentence for each name that stands for none.

    A folder stands for all images in it and below, but for hidden ones; `-` for the lines of `listed`.
    """
    found: dict[str, None] = {}
    faults = []
    for name in _with_list(named, listed):
        paths, fault = _meant(name)
        found.update(dict.fromkeys(paths))
        faults += [fault] if fault else []
    return list(found), faults


def _with_list(named: Iterable[str], listed: TextIO) -> Iterator[str]:
    for name in named:
        yield from filter(None, _lines(listed)) if name == "-" else [name]


def _lines(listed: TextIO) -> list[str]:
    """The names in a list, as bytes where they are not UTF-8; `find -print0` divides them by zero bytes."""
    content = listed.buffer.read() if hasattr(listed, "buffer") else listed.read().encode(errors="surrogateescape")
    if content.startswith(_UTF16):
        text = content.decode("utf-16", "replace")
    elif 2 * content.count(0) > 0.8 * len(content):  # without a mark of its byte order: every second byte is zero
        text = content.decode("utf-16-le" if content[1::2].count(0) > content[::2].count(0) else "utf-16-be", "replace")
    else:
        text = content.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    return text.split("\0") if "\0" in text else re.split(r"\r?\n", text)


def _meant(name: str) -> tuple[list[str], str]:
    try:
        path = Path(name).expanduser()
        if path.is_dir():
            return _images_in(path)
        existing = next((one for one in _forms(path) if one.exists()), None)
        if existing:
            return [str(existing)], ""
        matches = _matches(str(path)) if glob.has_magic(name) else []
        images = [image for match in matches for image in _meant(match)[0]]
        return images, "" if images else f"there is no file {name}."
    except UserError as error:
        return [], str(error)
    except (OSError, ValueError, RuntimeError) as error:  # names too long, with a zero byte, of nobody's home
        return [], f"{name[:200]} cannot be looked up: {getattr(error, 'strerror', None) or error}."


def _forms(path: Path) -> Iterator[Path]:
    """The path itself, and as other systems write its accented letters."""
    yield path
    yield from (Path(unicodedata.normalize(form, str(path))) for form in ("NFC", "NFD"))


def _images_in(folder: Path) -> tuple[list[str], str]:
    paths = walk(folder).paths()
    images = sorted(path for path in paths if is_image(path))
    needed = what_to_install(paths)
    endings = ", ".join(EXTENSIONS)
    fault = f"there is no image in {folder}: none of its files ends in {endings}{needed and f'; {needed}'}."
    return images, "" if images else fault


def _matches(pattern: str) -> list[str]:
    start, any_depth, rest = pattern.partition("**")
    if not any_depth or (start and not start.endswith(os.sep)):
        return sorted(glob.glob(pattern))
    roots = filter(os.path.isdir, glob.glob(start) if start else ["."])
    parts = ("**" + rest).split(os.sep)
    return [path for root in sorted(roots) for path in _fitting(root, bool(start), parts)]


def _fitting(root: str, named: bool, parts: Sequence[str]) -> list[str]:
    """The files below `root` that fit a pattern with `**`, each once, whatever links lead to it."""
    below = [os.path.relpath(path, root) for path in walk(Path(root)).paths()]
    found = [path for path in below if _fits(path.split(os.sep), parts) and (parts[-1] != "**" or is_image(path))]
    return sorted(os.path.join(root, path) if named else path for path in found)


def _fits(names: Sequence[str], parts: Sequence[str]) -> bool:
    if not parts or not names:
        return not names and all(part == "**" for part in parts)
    if parts[0] == "**":
        return _fits(names, parts[1:]) or _fits(names[1:], parts)
    return fnmatchcase(names[0], parts[0]) and _fits(names[1:], parts[1:])
