"""Inspect image files by decoding them completely."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from thaw.curation.parallel import on_every_core
from thaw.curation.similarity import grey_thumbnail
from thaw.data.grey import OWN
from thaw.data.images import to_rgb
from thaw.data.metadata import is_turned_by_loading, orientation, upright, without_bad_metadata

_JPEG = (".jpg", ".jpeg", ".jfif", ".jpe")
_SUFFIXES = {
    "JPEG": _JPEG,
    "MPO": _JPEG,
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm"),
    "HEIF": (".heic", ".heif"),
}
_CUT_OFF = ("truncated", "not enough image data", "premature end")


@dataclass(frozen=True)
class Inspection:
    """Properties of an image file.

    `fault` is the reason why the file cannot be used, and `kind` is the kind of fault; both are None for a good file.
    `thumbnail` is the result of `thaw.curation.similarity.grey_thumbnail`, or None for a file with a fault. `width` and
    `height` are as stored in the file. `turned` is True if EXIF rotates or mirrors the image.
    """

    path: Path
    size: int
    sha256: str
    kind: str | None = None
    fault: str | None = None
    width: int = 0
    height: int = 0
    mode: str = ""
    format: str = ""
    turned: bool = False
    thumbnail: np.ndarray | None = field(default=None, compare=False, repr=False)

    @property
    def misnamed(self) -> bool:
        return bool(self.format) and self.path.suffix.lower() not in suffixes(self.format)


def suffixes(image_format: str) -> Sequence[str]:
    """Return the file extensions of a Pillow format such as `JPEG`, the most common extension first."""
    return _SUFFIXES.get(image_format, (f".{image_format.lower()}",))


def inspect(path: Path) -> Inspection:
    """Return the properties of an image file. An unreadable file gets a `fault`; no error is raised."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return Inspection(path, 0, "", "unreadable", f"cannot be read ({error.strerror or error})")
    facts = {"path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    if not content:
        return Inspection(**facts, kind="empty", fault="has no bytes")
    try:
        return _decoded(facts)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return Inspection(**facts, kind="bomb", fault=f"has more than {pixel_limit()}")
    except Exception as error:  # Pillow's decoders raise errors of many types
        kind, fault = _fault(error)
        return Inspection(**facts, kind=kind, fault=fault)


def inspect_all(paths: Sequence[Path], title: str) -> Iterator[Inspection]:
    """Inspect the files `paths` on all cores, and yield the results in order."""
    return on_every_core(inspect, paths, len(paths), title, "file")


def _decoded(facts: dict) -> Inspection:
    def read(source: str | Path | BinaryIO) -> Inspection:
        with Image.open(source) as image:
            stored = {"width": image.width, "height": image.height, "mode": image.mode, "format": image.format}
            if image.width * image.height > Image.MAX_IMAGE_PIXELS:
                return Inspection(**facts, **stored, kind="bomb", fault=f"has more than {pixel_limit()}")
            turned = is_turned_by_loading(image)
            image.load()
            turn = orientation(image)
            rgb = to_rgb(upright(image, turn), OWN)
        return Inspection(**facts, **stored, turned=turned or turn != 1, thumbnail=grey_thumbnail(rgb))

    return without_bad_metadata(facts["path"], read)


def pixel_limit() -> str:
    """Return the largest number of pixels that Pillow decodes, as text for a message."""
    assert Image.MAX_IMAGE_PIXELS is not None
    return f"{Image.MAX_IMAGE_PIXELS / 1e6:.0f} million pixels"


def _fault(error: Exception) -> tuple[str, str]:
    text = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    if any(words in text.lower() for words in _CUT_OFF):
        return "truncated", f"is cut off ({text})"
    if "cannot identify image file" in text:
        return "no image", "does not have an image format that Pillow can read"
    return "unreadable", f"cannot be decoded ({text})"
