"""Find images by file names, folders, glob patterns, or a list on standard input."""

import codecs
import glob
import itertools
import os
import re
import unicodedata
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TextIO

from thaw.data.endings import EXTENSIONS, is_image, what_to_install
from thaw.data.walk import walk
from thaw.errors import UserError

# UTF-32-LE comes first, because its byte order mark begins with the mark of UTF-16-LE.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_LAST_PLANE = 0x10  # number of the last Unicode plane; the second highest byte of UTF-32 has the plane's number


def image_paths(named: Sequence[str], listed: TextIO) -> tuple[list[str], list[str]]:
    """Return the image paths that `named` selects, in order and without repetition, and a sentence per problem.

    A folder selects all images in it and below it, except hidden ones. `-` reads paths from `listed`, one per line.
    """
    found: dict[str, None] = {}
    names = [_lines(listed) if name == "-" else [name] for name in named]
    faults = [] if all(names) else ["the list of paths on standard input is empty."]
    for name in itertools.chain(*names):
        paths, fault = _selected(name)
        found.update(dict.fromkeys(paths))
        faults += [fault] if fault else []
    return list(found), faults


def _lines(listed: TextIO) -> list[str]:
    """Return the names that `listed` contains, one per line or separated by zero bytes (`find -print0`).

    Bytes that are not UTF-8 become surrogate escapes.
    """
    content = listed.buffer.read() if hasattr(listed, "buffer") else listed.read().encode(errors="surrogateescape")
    wide = _wide_encoding(content)
    if wide:
        return list(filter(None, re.split(r"\r?\n", content.decode(wide, "replace"))))
    text = content.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    return list(filter(None, text.split("\0") if "\0" in text else re.split(r"\r?\n", text)))


def _wide_encoding(content: bytes) -> str | None:
    """Detect UTF-16 or UTF-32, with or without a byte order mark; return None for other encodings."""
    marked = next((encoding for mark, encoding in _MARKS.items() if content.startswith(mark)), None)
    if marked or len(content) < 4:
        return marked
    highest = [max(content[place::4]) for place in range(4)]
    if highest[3] == 0 and highest[2] <= _LAST_PLANE:
        return "utf-32-le"
    if highest[0] == 0 and highest[1] <= _LAST_PLANE:
        return "utf-32-be"
    if 2 * content.count(0) > 0.8 * len(content):
        return "utf-16-le" if content[1::2].count(0) > content[::2].count(0) else "utf-16-be"
    return None


def _selected(name: str) -> tuple[list[str], str]:
    if not name:  # such as an unset variable of a shell; pathlib would take it for the present folder
        return [], "a path is empty."
    try:
        path = Path(name).expanduser()
        if path.is_dir():
            return _images_in(path)
        accents = (unicodedata.normalize(form, str(path)) for form in ("NFC", "NFD"))  # file systems use both forms
        existing = next((form for form in (path, *map(Path, accents)) if form.exists()), None)
        if existing:
            return [str(existing)], ""
        matches = _matches(str(path)) if glob.has_magic(name) else []
        images = [image for match in matches for image in _selected(match)[0]]
        return images, "" if images else f"there is no file {name}."
    except UserError as error:
        return [], str(error)
    except (OSError, ValueError, RuntimeError) as error:  # for example, the name is too long, or ~user is unknown
        return [], f"{name[:200]} cannot be read as a path: {getattr(error, 'strerror', None) or error}."


def _images_in(folder: Path) -> tuple[list[str], str]:
    paths = walk(folder).paths()
    images = sorted(path for path in paths if is_image(path))
    needed = what_to_install(paths)
    if images:
        return images, needed and f"some files in {folder} are skipped: {needed}."
    endings = ", ".join(EXTENSIONS)
    return [], f"there is no image in {folder}: none of its files ends in {endings}{needed and f'; {needed}'}."


def _matches(pattern: str) -> list[str]:
    start, any_depth, rest = pattern.partition("**")
    if not any_depth or (start and not start.endswith(os.sep)):
        return sorted(glob.glob(pattern))
    roots = filter(os.path.isdir, glob.glob(start) if start else ["."])
    parts = ("**" + rest).split(os.sep)
    return [path for root in sorted(roots) for path in _matches_below(root, bool(start), parts)]


def _matches_below(root: str, named: bool, parts: Sequence[str]) -> list[str]:
    """Return the files below `root` that match a pattern with `**`; a file behind several links is listed once."""
    below = [os.path.relpath(path, root) for path in walk(Path(root)).paths()]
    found = [path for path in below if _match(path.split(os.sep), parts) and (parts[-1] != "**" or is_image(path))]
    return sorted(os.path.join(root, path) if named else path for path in found)


def _match(names: Sequence[str], parts: Sequence[str]) -> bool:
    if not parts or not names:
        return not names and all(part == "**" for part in parts)
    if parts[0] == "**":
        return _match(names, parts[1:]) or _match(names[1:], parts)
    return fnmatchcase(names[0], parts[0]) and _match(names[1:], parts[1:])
