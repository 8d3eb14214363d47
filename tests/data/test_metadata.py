"""What a file says beside its pixels may be broken, and costs no image."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from thaw.curation.inspection import inspect
from thaw.data.images import load_rgb, pixel_count
from thaw.data.metadata import without_metadata

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # as wherever Thaw runs

RAMP = np.stack([np.tile(np.arange(0, 240, 3, dtype=np.uint8), (40, 1))] * 3, -1)
# The right tag, then one that points far beyond the end, and one of an unknown type.
ORIENTED = b"Exif\0\0II*\0\x08\0\0\0\x03\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"
ORIENTED += b"\x0f\x01\x02\0\x40\0\0\0\xff\xff\xff\x7f\x10\x01\x63\0\x01\0\0\0\0\0\0\0\0\0\0\0"
WRONG_TYPE = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0\x36\0\0\0\0\0\0\0"  # "6" as text
NO_SUCH = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x63\0\0\0\0\0\0\0"  # 99
UNENDING = b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"


def jpeg(*segments, **options):
    file = io.BytesIO()
    Image.fromarray(RAMP).save(file, "jpeg", quality=95, **options)
    content = file.getvalue()
    return content[:2] + b"".join(segments) + content[2:]


def segment(marker, data):
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def png(*chunks, at=33):
    """With chunks behind the header, each (kind, data, checksum or None for the right one)."""
    file = io.BytesIO()
    Image.fromarray(RAMP).save(file, "png")
    content, extra = file.getvalue(), b""
    for kind, data, checksum in chunks:
        right = zlib.crc32(kind + data) if checksum is None else checksum
        extra += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", right)
    return content[:at] + extra + content[at:]


def webp(*chunks):
    file = io.BytesIO()
    Image.fromarray(RAMP).save(file, "webp", lossless=True, exif=NO_SUCH, icc_profile=b"broken")
    content = file.getvalue()
    return content + b"".join(chunks)


def tiff(*entries, compression=None, order="<"):
    """With more tags than an image needs, as (tag, type, count, value)."""
    file = io.BytesIO()
    Image.fromarray(RAMP).save(file, "tiff", compression=compression)
    content = file.getvalue()
    (place,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, place)
    own = [content[place + 2 + 12 * n : place + 14 + 12 * n] for n in range(count)]
    all_of_them = sorted([*own, *(struct.pack("<HHII", *entry) for entry in entries)], key=lambda e: e[:2][::-1])
    directory = struct.pack("<H", len(all_of_them)) + b"".join(all_of_them) + bytes(4)
    return content[:4] + struct.pack("<I", len(content)) + content[8:] + directory


BROKEN = {
    "EXIF that is none": jpeg(segment(0xE1, b"Exif\0\0" + b"garbage" * 9)),
    "empty EXIF": jpeg(segment(0xE1, b"Exif\0\0")),
    "EXIF without an end": jpeg(segment(0xE1, UNENDING[:-4])),
    "orientation as text": jpeg(segment(0xE1, WRONG_TYPE)),
    "orientation 99": jpeg(segment(0xE1, NO_SUCH)),
    "XMP": jpeg(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta tiff:Orientation='")),
    "ICC profile": jpeg(segment(0xE2, b"ICC_PROFILE\0\x02\x05broken"), segment(0xE2, b"ICC_PROFILE\0\x09")),
    "MPF": jpeg(segment(0xE2, b"MPF\0II*\0\x08\0\0\0\x01\0\x01\xb0\x04\0\xff\xff\0\0\x02\0\0\0\0\0\0\0")),
    "MPF of nothing": jpeg(segment(0xE2, b"MPF\0II*\0\x08\0\0\0\0\0\0\0\0\0")),
    "Photoshop": jpeg(segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04\xff\xff")),
    "an Adobe segment without a version": jpeg(segment(0xEE, b"Adobe")),
    "an Adobe segment with half a version": jpeg(segment(0xEE, b"Adobe\0")),
    "JFIF": jpeg().replace(b"JFIF\0\x01\x01", b"JFIF\0\x09\x09", 1),
    "a short JFIF": jpeg().replace(jpeg()[2:20], segment(0xE0, b"JFIF\0"), 1),
    "a comment": jpeg(segment(0xFE, b"\xff\xfe\xfd" * 50)),
    "a PNG's EXIF": png((b"eXIf", b"garbage", None)),
    "a PNG's ICC profile": png((b"iCCP", b"name\0\x07broken", None)),
    "a PNG's text": png((b"zTXt", b"key\0\0broken", None)),
    "a PNG's bomb of text": png((b"zTXt", b"key\0\0" + zlib.compress(bytes(80_000_000), 9), None)),
    "a PNG's checksum": png((b"tEXt", b"key\0value", 12345)),
    "a PNG's short density": png((b"pHYs", b"\0", None)),
    "a PNG's short gamma": png((b"gAMA", b"\0", None)),
    "a PNG's short chromaticity": png((b"cHRM", b"\0\0", None)),
    "a PNG's raw EXIF": png((b"tEXt", b"Raw profile type exif\0\n\nexif\nzzzz", None)),
    "a WebP's profile": webp(),
    "a WebP's last chunk": webp(b"EXIF\xff\xff\0\0abc"),
    "a TIFF's EXIF": tiff((34665, 4, 1, 0x7FFFFFFF)),
    "a TIFF's EXIF of another type": tiff((34665, 2, 4, 0)),
    "a compressed TIFF's EXIF": tiff((34665, 2, 4, 0), compression="tiff_lzw"),
    "a TIFF's profile": tiff((34675, 7, 9999, 0x7FFFFFFF)),
    "a TIFF's density": tiff((282, 2, 4, 0x41414141), (283, 2, 4, 0x41414141), (296, 3, 1, 3)),
    "a TIFF's orientation": tiff((274, 3, 1, 99)),
    "a TIFF's orientation as text": tiff((274, 2, 4, 0x41414141)),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("short_side", [None, 10])
def test_broken_metadata_costs_no_pixels(tmp_path, kind, short_side):
    path = tmp_path / "image.bin"
    path.write_bytes(BROKEN[kind])
    image = Image.fromarray(RAMP)
    expected = np.asarray(image if short_side is None else image.resize((20, 10), Image.Resampling.BOX)).astype(int)
    for source in (path, io.BytesIO(BROKEN[kind])):
        pixels = np.asarray(load_rgb(source, short_side)).astype(int)
        assert pixels.shape == expected.shape and abs(pixels - expected).mean() < 3
    assert pixel_count(path, short_side) == expected.size / 3
    assert inspect(path).fault is None


@pytest.mark.parametrize("short_side", [None, 10])
def test_an_orientation_among_broken_tags_is_honoured(tmp_path, short_side):
    path = tmp_path / "image.jpg"
    path.write_bytes(jpeg(segment(0xE1, ORIENTED)))
    upright = np.asarray(Image.fromarray(RAMP).transpose(Image.Transpose.ROTATE_270))
    pixels = np.asarray(load_rgb(path, short_side)).astype(int)
    if short_side is None:
        assert abs(pixels - upright).max() < 9
    else:
        assert pixels.shape == (20, 10, 3)
    assert inspect(path).turned


def test_an_orientation_beside_broken_metadata_of_another_kind_is_honoured():
    turned = np.asarray(Image.fromarray(RAMP).transpose(Image.Transpose.ROTATE_270)).astype(int)
    for content in (
        png((b"eXIf", ORIENTED[6:], None), (b"tEXt", b"key\0value", 12345)),
        jpeg(segment(0xE1, ORIENTED)).replace(jpeg()[2:20], segment(0xE0, b"JFIF\0"), 1),
    ):
        pixels = np.asarray(load_rgb(io.BytesIO(content))).astype(int)
        assert pixels.shape == turned.shape and abs(pixels - turned).max() < 9


@pytest.mark.parametrize("ending", ["jpeg", "png", "webp", "tiff"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "CMYK", "1"])
def test_without_its_metadata_a_file_has_the_same_pixels(ending, mode):
    if mode in {"jpeg": ("RGBA", "P", "1"), "png": ("CMYK",), "webp": ("CMYK", "P", "1", "L")}.get(ending, ()):
        return
    file, info = io.BytesIO(), PngImagePlugin.PngInfo()
    info.add_text("key", "value")
    options = (
        {"exif": ORIENTED[6:] if ending == "webp" else b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"}
        if ending != "tiff"
        else {}
    )
    given = Image.fromarray(RAMP).convert(mode)
    given.save(file, ending, lossless=True, **options, **({"pnginfo": info} if ending == "png" else {}))
    stripped = without_metadata(file.getvalue())
    with Image.open(file) as before, Image.open(io.BytesIO(stripped)) as after:
        assert (after.mode, after.size) == (before.mode, before.size)
        assert (np.asarray(before) == np.asarray(after)).all()
        assert after.getexif().get(0x0112) == before.getexif().get(0x0112)


def test_what_is_broken_itself_is_told_as_before(tmp_path):
    from thaw.errors import UnreadableImageError

    for name, content in (("a.jpg", jpeg()[:300]), ("b.png", png()[:60]), ("c.png", b"\x89PNG\r\n\x1a\n"), ("d", b"x")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UnreadableImageError, match=name):
            load_rgb(tmp_path / name)
