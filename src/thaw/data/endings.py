"""Which files are images, by the endings of their names."""

import os
from collections.abc import Iterable
from importlib.util import find_spec

from PIL import features

# The endings that torchvision's ImageFolder reads, whose import takes seconds, and others of the same formats.
_ALWAYS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".jfif", ".jpe")
_AVIF, _HEIF = (".avif",), (".heic", ".heif")
_HAS_AVIF, _HAS_HEIF = features.check("avif"), find_spec("pillow_heif") is not None

_BRANDS = dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), ".heic")
_BRANDS |= {b"avif": ".avif", b"avis": ".avif"}

EXTENSIONS = (*_ALWAYS, *(_AVIF if _HAS_AVIF else ()), *(_HEIF if _HAS_HEIF else ()))

_MISSING = {} if _HAS_AVIF else dict.fromkeys(_AVIF, "pip install 'pillow>=11.3'")
_MISSING |= {} if _HAS_HEIF else dict.fromkeys(_HEIF, "pip install pillow-heif")


def is_image(name: str) -> bool:
    return _ending(name) in EXTENSIONS


def what_to_install(names: Iterable[str]) -> str:
    """Return what has to be installed so that Thaw can read all of `names`, or an empty string."""
    return _installation({_ending(name) for name in names})


def what_to_install_for(content: bytes) -> str:
    """Return what `what_to_install` does, for the bytes of one file without a name."""
    return _installation({_BRANDS[content[8:12]]} if content[4:8] == b"ftyp" and content[8:12] in _BRANDS else set())


def more_formats() -> tuple[str, ...]:
    """Return the formats, by Pillow's names, that not every installation of Pillow reads but this one does."""
    return (*(["AVIF"] if _HAS_AVIF else []), *(["HEIF"] if _HAS_HEIF else []))


def register_plugins() -> None:
    """Let Pillow read the formats that need another package."""
    if _HAS_HEIF:
        from pillow_heif import register_heif_opener

        register_heif_opener()


def _installation(endings: set[str]) -> str:
    return ", ".join(f"to read {ending} files, {_MISSING[ending]}" for ending in sorted(endings & _MISSING.keys()))


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()
