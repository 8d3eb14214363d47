"""Which images are meant: files, folders, patterns, and a list on standard input."""

import glob
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from thaw.data.images import EXTENSIONS


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
        yield from filter(None, (line.rstrip("\r\n") for line in listed)) if name == "-" else [name]


def _meant(name: str) -> tuple[list[str], str]:
    try:
        path = Path(name).expanduser()
        if path.is_dir():
            images = [str(file) for file in sorted(path.rglob("*")) if _is_image(file, path)]
            return images, "" if images else f"there is no image in {name}: none of its files ends in {_ENDINGS}."
        if path.exists():
            return [str(path)], ""
        matches = sorted(glob.glob(str(path), recursive=True)) if glob.has_magic(name) else []
        images = [image for match in matches for image in _meant(match)[0]]
        return images, "" if images else f"there is no file {name}."
    except (OSError, ValueError, RuntimeError) as error:  # names too long, with a zero byte, of nobody's home
        return [], f"{name[:200]} cannot be looked up: {getattr(error, 'strerror', None) or error}."


_ENDINGS = ", ".join(EXTENSIONS)


def _is_image(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return file.suffix.lower() in EXTENSIONS and not hidden and not file.is_dir()
