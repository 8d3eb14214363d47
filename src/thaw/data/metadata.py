"""What a file says beside its pixels, which may be broken: it costs no image."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

from PIL import Image

T = TypeVar("T")

_ORIENTATION = 0x0112  # in EXIF and TIFF; 1 is upright
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
_WEBP_KEPT, _WEBP_EXIF = (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"EXIF"), 0x08
_WEBP_OTHERS = 0x20 | 0x04  # flags of a profile and of XMP
_TIFF_PIXELS = {
    *(256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 332, 338),
    *(339, 340, 341, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532),
}


def without_bad_metadata(source: str | Path | BinaryIO, read: Callable[[str | Path | BinaryIO], T]) -> T:
    """Return what `read` makes of an image file; where it fails, what it makes of the file without its metadata.

    Raises:
        Exception: what `read` raises of the file as it is, where it fails both times.

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
    """Whether Pillow turns an image upright as it decodes it, which it does with TIFF."""
    return getattr(image, "tag_v2", {}).get(_ORIENTATION) in _TURNS


def orientation(image: Image.Image) -> int:
    """Return how an image that is loaded has to be turned, 1 to 8 as EXIF counts; 1 where that cannot be told."""
    try:
        told = image.getexif().get(_ORIENTATION, 1)
        return int(told) if told in _TURNS else 1
    except Exception:  # of whatever is in there instead
        return 1


def upright(image: Image.Image, told: int) -> Image.Image:
    """Return a copy of an image whose orientation is `told`, turned upright."""
    return image.transpose(_TURNS[told]) if told in _TURNS else image.copy()


def without_metadata(content: bytes) -> bytes | None:
    """Return a JPEG, PNG, WebP or TIFF file with nothing in it but its pixels and orientation; None for any other."""
    for head, strip in (
        (b"\xff\xd8\xff", _jpeg),
        (_PNG, _png),
        (b"RIFF", _webp),
        (b"II*\x00", _tiff),
        (b"MM\x00*", _tiff),
    ):
        if content.startswith(head):
            try:
                return strip(content)
            except (struct.error, IndexError):  # it is cut off before its pixels
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
    """Without comments and application segments, but for EXIF and the two that say how colours are stored."""
    kept, place = [content[:2]], 2
    while content[place + 1] != 0xDA:  # the pixels follow
        marker, (length,) = content[place + 1], struct.unpack_from(">H", content, place + 2)
        segment = content[place : place + 2 + length]
        if marker == 0xE0 and segment[4:8] == b"JFIF":
            kept.append(_JFIF)
        elif marker == 0xEE or segment[4:8] == b"Exif" or not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            kept.append(segment)
        place += 2 + length
        while content[place + 1] == 0xFF:  # padding
            place += 1
    return b"".join([*kept, content[place:]])


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
        del kept[-1]  # it is cut off
    dropped = _WEBP_OTHERS | (0 if b"EXIF" in dict(kept) else _WEBP_EXIF)
    body = b"WEBP" + b"".join(
        chunk[:8] + bytes([chunk[8] & ~dropped]) + chunk[9:] if kind == b"VP8X" else chunk for kind, chunk in kept
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _chunks(content: bytes, place: int, order: str, layout: str) -> Iterator[tuple[bytes, bytes]]:
    """The kind of each chunk from `place` on, and the chunk as a whole: those of PNG end in a checksum."""
    while place + 8 <= len(content):
        if layout == "kind first":
            kind, length = struct.unpack_from(f"{order}4sI", content, place)
            end = place + 8 + length + length % 2
        else:
            length, kind = struct.unpack_from(f"{order}I4s", content, place)
            end = place + 12 + length
        yield kind, content[place:end]
        place = end


def _tiff(content: bytes) -> bytes:
    """With another directory of the first image behind all else, to which the header points."""
    order = "<" if content.startswith(b"II") else ">"
    (place,) = struct.unpack_from(f"{order}I", content, 4)
    (count,) = struct.unpack_from(f"{order}H", content, place)
    entries = [content[place + 2 + 12 * n : place + 14 + 12 * n] for n in range(count)]
    kept = [entry for entry in entries if _is_needed(entry, order)]
    directory = struct.pack(f"{order}H", len(kept)) + b"".join(kept) + bytes(4)
    padding = bytes(len(content) % 2)
    end = struct.pack(f"{order}I", len(content) + len(padding))
    return content[:4] + end + content[8:] + padding + directory


def _is_needed(entry: bytes, order: str) -> bool:
    tag, kind, count, value = struct.unpack(f"{order}HHIH", entry[:10])
    return tag in _TIFF_PIXELS and (tag != _ORIENTATION or ((kind, count) == (3, 1) and 1 <= value <= 8))
