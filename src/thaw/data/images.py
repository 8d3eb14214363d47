"""Reading a photograph: any Pillow mode, upright, as RGB, no larger than it is needed."""

import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageCms, UnidentifiedImageError

from thaw.data.endings import register_plugins, what_to_install
from thaw.data.grey import GreyRange, eight_bits, is_deep
from thaw.data.metadata import orientation, upright, without_bad_metadata
from thaw.errors import UnreadableImageError

register_plugins()

warnings.filterwarnings("ignore", module=r"PIL\b")  # of odd metadata; an image that cannot be used is told by name

# Large reductions average whole blocks of pixels first; from 3 on that cannot be told from resizing at once (Pillow).
_REDUCING_GAP = 3.0
_FILTER = Image.Resampling.BILINEAR  # that of the transforms


def load_rgb(
    source: str | Path | BinaryIO,
    short_side: int | None = None,
    formats: Sequence[str] | None = None,
    grey_range: GreyRange = None,
) -> Image.Image:
    """The first frame as an upright 8-bit RGB image; transparency is laid over white.

    `source` is a path or an open file; `formats` are those of Pillow's that are tried, by their names, else all.
    `grey_range` says what becomes black and white in grey of more than 8 bits (`thaw.data.grey`).

    An image whose short side has more than `short_side` pixels is reduced to that many; a JPEG of at least twice as
    many is decoded at a half, a quarter or an eighth of its size on the way, which is several times as quick.

    Raises:
        UnreadableImageError: naming the path, if there is one, for whatever Pillow cannot decode to the last row, and
            for more pixels than it takes for harmless, which the header alone decides.

    """

    def read(source: str | Path | BinaryIO) -> Image.Image:
        with _opened(source, short_side, formats) as image:
            return upright_rgb(image, short_side, grey_range)

    with named_fault(source):
        return without_bad_metadata(source, read)


def upright_rgb(image: Image.Image, short_side: int | None, grey_range: GreyRange) -> Image.Image:
    """Return an opened image as `load_rgb` does; `image` itself changes."""
    size = reduced_size(image.size, short_side)
    # A JPEG alone heeds it; it is never decoded smaller than asked for, and then fills `box` of what is decoded.
    drafted = image.draft(None, size) if size != image.size else None
    image.load()
    turn = orientation(image)
    if drafted:
        _, box = drafted
        image = image.resize(size, _FILTER, box, _REDUCING_GAP)
    rgb = to_rgb(upright(image, turn), grey_range)
    size = reduced_size(rgb.size, short_side)
    return rgb if rgb.size == size else rgb.resize(size, _FILTER, reducing_gap=_REDUCING_GAP)


def pixel_count(path: str | Path, short_side: int | None = None) -> int:
    """How many pixels `load_rgb` will give, from the file's header alone.

    Raises:
        UnreadableImageError: naming the path, if there is no such header, or one with too many pixels.

    """

    def read(path: str | Path | BinaryIO) -> int:
        with _opened(path, short_side) as image:
            width, height = reduced_size(image.size, short_side)
            return width * height

    with named_fault(path):
        return without_bad_metadata(path, read)


def reduced_size(size: tuple[int, int], short_side: int | None) -> tuple[int, int]:
    """`size`, or the one of the same shape whose short side is `short_side`, if that is smaller."""
    short = min(size)
    if short_side is None or short <= short_side:
        return size
    width, height = (round(side * short_side / short) for side in size)
    return width, height


@contextmanager
def named_fault(source: str | Path | BinaryIO) -> Iterator[None]:
    """Tells whatever goes wrong in reading an image in one sentence."""
    path = str(source) if isinstance(source, str | Path) else None
    name = f"the image {path}" if path else "the image"
    try:
        yield
    except UnidentifiedImageError as error:
        needed = what_to_install([path or ""])
        raise UnreadableImageError(
            f"cannot read {name}: it is none that Pillow knows{needed and f' ({needed})'}."
        ) from error
    except Exception as error:  # each of Pillow's decoders fails in its own ways
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = reason.replace(repr(path or source), "it").rstrip(".")
        raise UnreadableImageError(f"cannot read {name}: {reason}.") from error


@contextmanager
def _opened(
    source: str | Path | BinaryIO, short_side: int | None, formats: Sequence[str] | None = None
) -> Iterator[Image.Image]:
    if isinstance(source, str | Path) and stat.S_ISFIFO(os.stat(source).st_mode):
        raise ValueError("it is a pipe, of which nobody knows whether it will ever end")
    with Image.open(source, formats=formats) as image:
        _refuse_many_pixels(image.size, short_side)
        yield image


def _refuse_many_pixels(size: tuple[int, int], short_side: int | None) -> None:
    """Pillow itself refuses from twice as many on, and warns before; and it knows nothing of what is done with it."""
    pixels, most = size[0] * size[1], Image.MAX_IMAGE_PIXELS
    if most is not None and pixels > most:
        raise ValueError(f"its {pixels} pixels are more than the {most} that Pillow takes for harmless")
    if most is not None and short_side is not None and short_side**2 * max(size) > most * min(size):
        raise ValueError(f"{size[0]} x {size[1]} pixels are too long a strip to be resized")


def to_rgb(image: Image.Image, grey_range: GreyRange = None) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if is_deep(image):
        return eight_bits(image, grey_range).convert("RGB")
    if image.mode == "LAB":
        to_srgb = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
        return ImageCms.applyTransform(image, to_srgb)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
