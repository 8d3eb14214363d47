"""What a file holds, found out by decoding it to the last row."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from thaw.curation.parallel import on_every_core
from thaw.curation.similarity import marks_of
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
    """`fault` says why the file is no image that can be used, and `kind` which sort of fault that is; None for none.

    `marks` are `thaw.curation.similarity.marks_of` the image, None for a file with a fault. `width` and `height` are
    those of the image as it is stored; `turned` says that its EXIF turns it.
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
    marks: np.ndarray | None = field(default=None, compare=False, repr=False)

    @property
    def misnamed(self) -> bool:
        """Whether the file's ending is not one of its format."""
        return bool(self.format) and self.path.suffix.lower() not in suffixes(self.format)


def suffixes(image_format: str) -> Sequence[str]:
    """The endings that files of a format of Pillow's have, the usual one first."""
    return _SUFFIXES.get(image_format, (f".{image_format.lower()}",))


def inspect(path: Path) -> Inspection:
    """Reads the whole file; whatever is wrong with it is in what is returned."""
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
        return Inspection(**facts, kind="bomb", fault=_bomb())
    except Exception as error:  # each of Pillow's decoders fails in its own ways
        return Inspection(**facts, **_told(error))


def inspect_all(paths: Sequence[Path], title: str) -> Iterator[Inspection]:
    """In the order of `paths`."""
    return on_every_core(inspect, paths, title, "file")


def _decoded(facts: dict) -> Inspection:
    def read(source: Path | BinaryIO) -> Inspection:
        with Image.open(source) as image:
            seen = {"width": image.width, "height": image.height, "mode": image.mode, "format": image.format}
            if image.width * image.height > Image.MAX_IMAGE_PIXELS:
                return Inspection(**facts, **seen, kind="bomb", fault=_bomb())
            turned = is_turned_by_loading(image)
            image.load()
            turn = orientation(image)
            rgb = to_rgb(upright(image, turn), OWN)
        return Inspection(**facts, **seen, turned=turned or turn != 1, marks=marks_of(rgb))

    return without_bad_metadata(facts["path"], read)


def _bomb() -> str:
    return f"has more than {Image.MAX_IMAGE_PIXELS / 1e6:.0f} million pixels"


def _told(error: Exception) -> dict:
    text = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    if any(words in text.lower() for words in _CUT_OFF):
        return {"kind": "truncated", "fault": f"is cut off ({text})"}
    if "cannot identify image file" in text:
        return {"kind": "no image", "fault": "is no image that Pillow knows"}
    return {"kind": "unreadable", "fault": f"cannot be decoded ({text})"}
