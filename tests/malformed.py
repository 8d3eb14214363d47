"""Write a hundred files that are not images, that have wrong extensions, or that have unusual names."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

_FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "bmp": "BMP", "tif": "TIFF", "ppm": "PPM"}
_OTHERS = {
    "text": b"no image at all\n" * 50,
    "html": b"<!doctype html><html><body>404</body></html>",
    "json": b'{"image": null}',
    "zip": b"PK\x03\x04" + bytes(200),
    "pdf": b"%PDF-1.7\n" + bytes(200),
    "mp4": b"\x00\x00\x00\x18ftypmp42" + bytes(200),
    "elf": b"\x7fELF" + bytes(200),
    "pickle": b"cos\nsystem\n(S'touch harmed'\ntR.",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n",
    "zeros": bytes(4096),
    "noise": np.random.default_rng(0).bytes(4096),
}
_NAMES = ("ünïcödé 猫", "-rf", "--format", "two\nlines", "tab\t", "'quo\"te", "<b>&", "%s{}", " ")


def write_malformed(folder: Path) -> list[Path]:
    """Write the malformed files into `folder` and return their paths; none can be read as an image."""
    folder.mkdir(parents=True)
    whole = {ending: _encoded(folder, ending, kind) for ending, kind in _FORMATS.items()}
    made = {}
    for ending, content in whole.items():
        for share in (0.02, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9):  # Pillow accepts some files without their last bytes
            made[f"cut at {share} .{ending}"] = content[: int(len(content) * share)]
        made[f"empty.{ending}"] = b""
        made[f"head missing.{ending}"] = content[8:]
    for name, content in _OTHERS.items():
        made |= {f"{name}.{ending}": content for ending in ("jpg", "PNG", "webp")}
    made["bomb.png"] = png_header(60_000, 60_000)
    made["strip.png"] = png_header(80_000_000, 1)
    made["nothing wide.png"] = png_header(0, 7)
    for name in (*_NAMES, "a" * 250):
        made[f"{name}.jpg"] = b"no image"
    for name, content in made.items():
        (folder / name).write_bytes(content)
    (folder / os.fsdecode(b"not utf-8 \xff.jpg")).write_bytes(b"no image")
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "a folder.jpg").mkdir()
    (folder / "no images" / "inside").mkdir(parents=True)
    return sorted(path for path in folder.iterdir() if not path.is_dir())


def png_header(width: int, height: int) -> bytes:
    """Return a PNG file of the given size that ends after its header."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def _encoded(folder: Path, ending: str, kind: str) -> bytes:
    pixels = np.random.default_rng(1).integers(0, 256, (90, 100, 3), dtype=np.uint8)
    path = folder / f"whole.{ending}"
    Image.fromarray(pixels).save(path, kind)
    content = path.read_bytes()
    path.unlink()
    return content
