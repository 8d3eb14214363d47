"""File extensions of images, and the packages to install for more image formats."""

import os
from collections.abc import Iterable
from importlib.util import find_spec

from PIL import features

# torchvision's IMG_EXTENSIONS and more extensions of the same formats; importing torchvision would take seconds.
_ALWAYS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".jfif", ".jpe")
_AVIF, _HEIF = (".avif",), (".heic", ".heif")
_HAS_AVIF, _HAS_HEIF = features.check("avif"), find_spec("pillow_heif") is not None

_BRANDS: dict[bytes, str] = dict.fromkeys(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), ".heic"
)
_BRANDS |= {b"avif": ".avif", b"avis": ".avif"}

EXTENSIONS = (*_ALWAYS, *(_AVIF if _HAS_AVIF else ()), *(_HEIF if _HAS_HEIF else ()))

_MISSING = {} if _HAS_AVIF else dict.fromkeys(_AVIF, "pip install 'pillow>=11.3'")
_MISSING |= {} if _HAS_HEIF else dict.fromkeys(_HEIF, "pip install pillow-heif")


def is_image(name: str) -> bool:
    return _ending(name) in EXTENSIONS


def what_to_install(names: Iterable[str]) -> str:
    """Return a hint like "to read .heic files, pip install pillow-heif", or an empty string if no package helps."""
    return _installation({_ending(name) for name in names})


def what_to_install_for(content: bytes) -> str:
    """Return the hint of `what_to_install` for a file with this `content`, or an empty string if no package helps."""
    return _installation({_BRANDS[content[8:12]]} if content[4:8] == b"ftyp" and content[8:12] in _BRANDS else set())


def more_formats() -> tuple[str, ...]:
    """Return which of the optional formats "AVIF" and "HEIF" this installation can read."""
    return (*(["AVIF"] if _HAS_AVIF else []), *(["HEIF"] if _HAS_HEIF else []))


def register_plugins() -> None:
    """Enable Pillow to read HEIF files, if the package pillow-heif is installed."""
    if _HAS_HEIF:
        from pillow_heif import register_heif_opener  # pyright: ignore[reportMissingImports]  # an optional package

        register_heif_opener()


def _installation(endings: set[str]) -> str:
    return ", ".join(f"to read {ending} files, {_MISSING[ending]}" for ending in sorted(endings & _MISSING.keys()))


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()
