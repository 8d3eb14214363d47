"""Small pictures of image files, for pages."""

from pathlib import Path

from PIL import Image

from thaw.data.grey import OWN
from thaw.data.images import load_rgb
from thaw.errors import UnreadableImageError
from thaw.pages.html import data_url

_SIDE = 320  # pixels


def picture(path: Path, side: int = _SIDE) -> str | None:
    """An image as a data URL; None if it cannot be read, or is no longer there."""
    try:
        image = load_rgb(path, side, grey_range=OWN)
    except UnreadableImageError:
        return None
    image.thumbnail((side, side), Image.Resampling.BICUBIC)
    return data_url(image)
