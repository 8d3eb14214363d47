"""Read image files as upright RGB images, whatever their Pillow mode, and no larger than needed."""

import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageCms, UnidentifiedImageError

from thaw.data.endings import register_plugins, what_to_install
from thaw.data.grey import GreyRange, is_deep, to_eight_bits
from thaw.data.metadata import orientation, upright, without_bad_metadata
from thaw.errors import UnreadableImageError

register_plugins()

warnings.filterwarnings("ignore", module=r"PIL\b")  # about odd metadata; undecodable images raise an error anyway

# Pillow first averages blocks of pixels. From a gap of 3.0 on, says its manual, this mostly looks like a plain resize.
_REDUCING_GAP = 3.0
_FILTER = Image.Resampling.BILINEAR  # the transforms use this filter by default, too


def load_rgb(
    source: str | Path | BinaryIO,
    short_side: int | None = None,
    formats: Sequence[str] | None = None,
    grey_range: GreyRange = None,
) -> Image.Image:
    """Return the first frame of an image file, upright and in 8-bit RGB; transparent pixels are blended with white.

    `source` is a path or an open file. `formats` are Pillow's names of the formats to try; None tries all.
    `grey_range` says which values become black and white in grey images of more than 8 bits (`thaw.data.grey`).

    An image whose short side has more than `short_side` pixels is reduced to that size. A JPEG of at least twice that
    size is first decoded at a half, a quarter or an eighth of its size, which is several times faster.

    Raises:
        UnreadableImageError: if Pillow cannot decode the image to the last row, or the header states more pixels than
            Pillow's safety limit. The message contains the path, if there is one.

    """

    def read(source: str | Path | BinaryIO) -> Image.Image:
        with _opened(source, short_side, formats) as image:
            return upright_rgb(image, short_side, grey_range)

    with named_fault(source):
        return without_bad_metadata(source, read)


def upright_rgb(image: Image.Image, short_side: int | None, grey_range: GreyRange) -> Image.Image:
    """Return an opened image as `load_rgb` does: decoded, reduced, upright and RGB. This changes `image`."""
    size = reduced_size(image.size, short_side)
    # `draft` decodes a JPEG at a reduced size of at least `size`. The photograph then fills the area `box`.
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
    """Return the number of pixels of the image that `load_rgb` would return; read only the file's header.

    Raises:
        UnreadableImageError: if the header is broken or states too many pixels. The message contains the path.

    """

    def read(path: str | Path | BinaryIO) -> int:
        with _opened(path, short_side) as image:
            width, height = reduced_size(image.size, short_side)
            return width * height

    with named_fault(path):
        return without_bad_metadata(path, read)


def reduced_size(size: tuple[int, int], short_side: int | None) -> tuple[int, int]:
    """Return (width, height), reduced in proportion until the short side is at most `short_side`."""
    short = min(size)
    if short_side is None or short <= short_side:
        return size
    width, height = (round(side * short_side / short) for side in size)
    return width, height


@contextmanager
def named_fault(source: str | Path | BinaryIO) -> Iterator[None]:
    """Turn any exception inside the `with` block into an UnreadableImageError that names the image and the reason."""
    path = str(source) if isinstance(source, str | Path) else None
    name = f"the image {path}" if path else "the image"
    try:
        yield
    except UnidentifiedImageError as error:
        needed = what_to_install([path or ""])
        raise UnreadableImageError(
            f"cannot read {name}: Pillow does not know its format{needed and f' ({needed})'}."
        ) from error
    except Exception as error:  # Pillow's decoders raise many kinds of exceptions
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = reason.replace(repr(path or source), "it").rstrip(".")
        raise UnreadableImageError(f"cannot read {name}: {reason}.") from error


@contextmanager
def _opened(
    source: str | Path | BinaryIO, short_side: int | None, formats: Sequence[str] | None = None
) -> Iterator[Image.Image]:
    if isinstance(source, str | Path) and stat.S_ISFIFO(os.stat(source).st_mode):
        raise ValueError("it is a pipe, which may never end")
    with Image.open(source, formats=list(formats) if formats else None) as image:
        _refuse_many_pixels(image.size, short_side)
        yield image


def _refuse_many_pixels(size: tuple[int, int], short_side: int | None) -> None:
    """Refuse images that exceed Pillow's limit, or would exceed it when resized. Pillow itself may only warn."""
    pixels, most = size[0] * size[1], Image.MAX_IMAGE_PIXELS
    if most is not None and pixels > most:
        raise ValueError(f"it has {pixels} pixels, more than Pillow's safety limit of {most}")
    if most is not None and short_side is not None and short_side**2 * max(size) > most * min(size):
        raise ValueError(f"its {size[0]} x {size[1]} pixels are too long and narrow to be resized")


def to_rgb(image: Image.Image, grey_range: GreyRange = None) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if is_deep(image):
        return to_eight_bits(image, grey_range).convert("RGB")
    if image.mode == "LAB":
        to_srgb = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
        converted = ImageCms.applyTransform(image, to_srgb)
        assert converted is not None, "None is returned only in place"
        return converted
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
