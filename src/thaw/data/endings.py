"""Which files are images, by the endings of their names."""

import os
from collections.abc import Iterable
from importlib.util import find_spec

from PIL import features

# The endings that torchvision's ImageFolder reads, whose import takes seconds, and others of the same formats.
_ALWAYS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".jfif", ".jpe")
_AVIF, _HEIF = (".avif",), (".heic", ".heif")
_HAS_AVIF, _HAS_HEIF = features.check("avif"), find_spec("pillow_heif") is not None

EXTENSIONS = (*_ALWAYS, *(_AVIF if _HAS_AVIF else ()), *(_HEIF if _HAS_HEIF else ()))

_MISSING = {} if _HAS_AVIF else dict.fromkeys(_AVIF, "pip install 'pillow>=11.3'")
_MISSING |= {} if _HAS_HEIF else dict.fromkeys(_HEIF, "pip install pillow-heif")


def is_image(name: str) -> bool:
    return _ending(name) in EXTENSIONS


def what_to_install(names: Iterable[str]) -> str:
    """Return what has to be installed so that Thaw can read all of `names`, or an empty string."""
    endings = sorted({_ending(name) for name in names} & _MISSING.keys())
    return ", ".join(f"to read {ending} files, {_MISSING[ending]}" for ending in endings)


def register_plugins() -> None:
    """Let Pillow read the formats that need another package."""
    if _HAS_HEIF:
        from pillow_heif import register_heif_opener

        register_heif_opener()


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()
