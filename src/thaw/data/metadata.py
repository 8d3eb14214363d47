"""Read the orientation of images, and remove broken metadata that stops Pillow from decoding an image."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

from PIL import Image

T = TypeVar("T")

EXIF_ORIENTATION = 0x0112  # a tag in EXIF and TIFF; its value is 1 for upright images
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_PNG, _PNG_KEPT = b"\x89PNG\r\n\x1a\n", (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"eXIf", b"IEND")
_JFIF = b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
_ADOBE = 16  # smallest length in bytes of a JPEG's Adobe segment, which states how colours are stored
_WEBP_KEPT, _WEBP_EXIF = (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"EXIF"), 0x08
_WEBP_OTHERS = 0x20 | 0x04  # flags for a colour profile and XMP
_TIFF_PIXELS = {
    *(256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 332, 338),
    *(339, 340, 341, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532),
}


def without_bad_metadata(source: str | Path | BinaryIO, read: Callable[[str | Path | BinaryIO], T]) -> T:
    """Return `read(source)`; if that raises, remove the metadata from a copy in memory and return `read(copy)`.

    Raises:
        Exception: the exception of `read(source)`, if reading without metadata also fails or is not possible.

    """
    try:
        return read(source)
    except Exception as error:
        stripped = without_metadata(_content(source))
        if stripped is None:
            raise
        try:
            return read(io.BytesIO(stripped))
        except Exception:
            raise error from None


def is_turned_by_loading(image: Image.Image) -> bool:
    """Return whether Pillow itself turns the image upright while decoding, as it does for TIFF files."""
    return getattr(image, "tag_v2", {}).get(EXIF_ORIENTATION) in _TURNS


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of a loaded image, 1 to 8; 1 (upright) if the orientation is missing or broken."""
    try:
        value = image.getexif().get(EXIF_ORIENTATION, 1)
        return int(value) if value in _TURNS else 1
    except Exception:  # broken EXIF data raises many kinds of exceptions
        return 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Return an upright copy of an image that has the EXIF orientation `orientation`."""
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image.copy()


def without_metadata(content: bytes) -> bytes | None:
    """Remove all metadata but the orientation from a JPEG, PNG, WebP or TIFF file; return None for other files."""
    strips = {b"\xff\xd8\xff": _jpeg, _PNG: _png, b"RIFF": _webp, b"II*\x00": _tiff, b"MM\x00*": _tiff}
    for head, strip in strips.items():
        if content.startswith(head):
            try:
                return strip(content)
            except (struct.error, IndexError):  # the file ends before its pixels
                return None
    return None


def _content(source: str | Path | BinaryIO) -> bytes:
    try:
        if isinstance(source, str | Path):
            path = Path(source)
            return path.read_bytes() if path.is_file() else b""
        source.seek(0)
        return source.read()
    except (OSError, ValueError):
        return b""


def _jpeg(content: bytes) -> bytes:
    """Remove comments and application segments, except EXIF, JFIF and Adobe: the last two state the colour format."""
    kept, offset = [content[:2]], 2
    while content[offset + 1] != 0xDA:  # until the pixels start
        marker, (length,) = content[offset + 1], struct.unpack_from(">H", content, offset + 2)
        segment = content[offset : offset + 2 + length]
        if marker == 0xE0 and segment[4:8] == b"JFIF":
            kept.append(_JFIF)
        elif _is_kept(marker, segment):
            kept.append(segment)
        offset += 2 + length
        while content[offset + 1] == 0xFF:  # skip padding
            offset += 1
    return b"".join([*kept, content[offset:]])


def _is_kept(marker: int, segment: bytes) -> bool:
    if marker == 0xEE:  # other decoders ignore an Adobe segment that is too short; Pillow raises an error
        return len(segment) >= _ADOBE
    return segment[4:8] == b"Exif" or not (0xE0 <= marker <= 0xEF or marker == 0xFE)


def _png(content: bytes) -> bytes:
    kept = [
        chunk
        for kind, chunk in _chunks(content, 8, ">", "length first")
        if kind in _PNG_KEPT and (kind != b"eXIf" or chunk[-4:] == struct.pack(">I", zlib.crc32(chunk[4:-4])))
    ]
    return b"".join([_PNG, *kept])


def _webp(content: bytes) -> bytes:
    kept = [(kind, chunk) for kind, chunk in _chunks(content, 12, "<", "kind first") if kind in _WEBP_KEPT]
    if kept[-1][0] == b"EXIF" and len(kept[-1][1]) < 8 + struct.unpack_from("<I", kept[-1][1], 4)[0]:
        del kept[-1]  # a truncated chunk
    dropped = _WEBP_OTHERS | (0 if b"EXIF" in dict(kept) else _WEBP_EXIF)
    body = b"WEBP" + b"".join(
        chunk[:8] + bytes([chunk[8] & ~dropped]) + chunk[9:] if kind == b"VP8X" else chunk for kind, chunk in kept
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _chunks(content: bytes, offset: int, order: str, layout: str) -> Iterator[tuple[bytes, bytes]]:
    """Yield (kind, all bytes) of each chunk from `offset` on; the bytes of a PNG chunk include its checksum."""
    while offset + 8 <= len(content):
        if layout == "kind first":
            kind, length = struct.unpack_from(f"{order}4sI", content, offset)
            end = offset + 8 + length + length % 2
        else:
            length, kind = struct.unpack_from(f"{order}I4s", content, offset)
            end = offset + 12 + length
        yield kind, content[offset:end]
        offset = end


def _tiff(content: bytes) -> bytes:
    """Append a directory with only the needed tags of the first image; let the header point to this directory."""
    order = "<" if content.startswith(b"II") else ">"
    (offset,) = struct.unpack_from(f"{order}I", content, 4)
    (count,) = struct.unpack_from(f"{order}H", content, offset)
    entries = [content[offset + 2 + 12 * n : offset + 14 + 12 * n] for n in range(count)]
    kept = [entry for entry in entries if _is_needed(entry, order)]
    directory = struct.pack(f"{order}H", len(kept)) + b"".join(kept) + bytes(4)
    padding = bytes(len(content) % 2)
    end = struct.pack(f"{order}I", len(content) + len(padding))
    return content[:4] + end + content[8:] + padding + directory


def _is_needed(entry: bytes, order: str) -> bool:
    tag, kind, count, value = struct.unpack(f"{order}HHIH", entry[:10])
    return tag in _TIFF_PIXELS and (tag != EXIF_ORIENTATION or ((kind, count) == (3, 1) and 1 <= value <= 8))
