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


def plain_jpeg(content: bytes | memoryview) -> JpegSize | None:
    """Return the image size of a plain JPEG file, or None for any other file, which Pillow must decode.

    A truncated file counts as not plain, so that Pillow decodes it and reports the fault.
    """
    if content[:3] != b"\xff\xd8\xff" or content[-2:] != b"\xff\xd9":
        return None
    try:
        return _scanned(content)
    except (struct.error, IndexError):
        return None


def _scanned(content: bytes | memoryview) -> JpegSize | None:
    offset, size = 2, None
    while (marker := content[offset + 1]) != _PIXELS:
        end = offset + 2 + (content[offset + 2] << 8 | content[offset + 3])
        if content[offset] != 0xFF or marker in _OTHER_FRAMES or _is_odd(marker, content, offset + 4, end):
            return None
        if marker == _BASELINE:
            bits, height, width, components = struct.unpack_from(">BHHB", content, offset + 4)
            named_rgb = content[offset + 10 : end : 3] == b"RGB"
            if bits != 8 or components not in (1, 3) or not height or not width or named_rgb:
                return None
            size = JpegSize(width, height)
        offset = end
    return size


def _is_odd(marker: int, content: bytes | memoryview, start: int, end: int) -> bool:
    """Return whether a segment states that the colours are not YCbCr or that the image is not upright."""
    if marker == _ADOBE and content[start : start + 5] == b"Adobe":
        return content[start + 11] != 1
    return marker == _EXIF and content[start : start + 6] == b"Exif\0\0" and not _is_upright(content[start:end])


def _is_upright(segment: bytes | memoryview) -> bool:
    exif = Image.Exif()
    try:
        exif.load(bytes(segment))
        return exif.get(EXIF_ORIENTATION, 1) == 1
    except Exception:  # broken EXIF data raises many kinds of exceptions
        return False
