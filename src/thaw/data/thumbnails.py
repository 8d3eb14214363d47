"""Thumbnails of image files for HTML pages."""

from pathlib import Path

from PIL import Image

from thaw.data.grey import OWN
from thaw.data.images import load_rgb
from thaw.errors import UnreadableImageError
from thaw.pages.html import data_url

_SIDE = 320  # pixels


def thumbnail_url(path: Path, side: int = _SIDE) -> str | None:
    """Return a thumbnail of at most `side` x `side` pixels as a data URL, or None if the image cannot be read."""
    try:
        image = load_rgb(path, side, grey_range=OWN)
    except UnreadableImageError:
        return None
    image.thumbnail((side, side), Image.Resampling.BICUBIC)
    return data_url(image)
