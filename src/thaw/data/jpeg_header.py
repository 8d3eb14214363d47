"""Recognise plain JPEG files (complete, baseline, upright, grey or YCbCr): all decoders return the same for them."""

import struct
from typing import NamedTuple

from PIL import Image

from thaw.data.metadata import EXIF_ORIENTATION

_BASELINE, _OTHER_FRAMES = 0xC0, {*range(0xC1, 0xD0)} - {0xC4, 0xC8, 0xCC}  # the last three markers start no frame
_PIXELS, _ADOBE, _EXIF = 0xDA, 0xEE, 0xE1


class JpegSize(NamedTuple):
    width: int
    height: int


def plain_jpeg(content: bytes | bytearray) -> JpegSize | None:
    """Return the image size of a plain JPEG file, or None for any other file, which Pillow must decode.

    A truncated file counts as not plain, so that Pillow decodes it and reports the fault.
    """
    if not content.startswith(b"\xff\xd8\xff") or not content.endswith(b"\xff\xd9"):
        return None
    try:
        return _scanned(content)
    except (struct.error, IndexError):
        return None


def _scanned(content: bytes | bytearray) -> JpegSize | None:
    offset, size = 2, None
    while (marker := content[offset + 1]) != _PIXELS:
        (length,) = struct.unpack_from(">H", content, offset + 2)
        segment = content[offset + 4 : offset + 2 + length]
        if content[offset] != 0xFF or marker in _OTHER_FRAMES or _is_odd(marker, segment):
            return None
        if marker == _BASELINE:
            bits, height, width, components = struct.unpack_from(">BHHB", segment)
            if bits != 8 or components not in (1, 3) or not height or not width or segment[6::3] == b"RGB":
                return None
            size = JpegSize(width, height)
        offset += 2 + length
    return size


def _is_odd(marker: int, segment: bytes | bytearray) -> bool:
    """Return whether a segment states that the colours are not YCbCr or that the image is not upright."""
    if marker == _ADOBE and segment.startswith(b"Adobe"):
        return segment[11:12] != b"\x01"
    return marker == _EXIF and segment.startswith(b"Exif\0\0") and not _is_upright(segment)


def _is_upright(segment: bytes | bytearray) -> bool:
    exif = Image.Exif()
    try:
        exif.load(bytes(segment))
        return exif.get(EXIF_ORIENTATION, 1) == 1
    except Exception:  # broken EXIF data raises many kinds of exceptions
        return False
