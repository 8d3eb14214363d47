"""Reading a photograph: any Pillow mode, upright, as RGB."""

from pathlib import Path

from PIL import Image, ImageCms, ImageOps

from thaw.errors import UnreadableImageError


def load_rgb(path: str | Path) -> Image.Image:
    """The first frame as an upright 8-bit RGB image; transparency is laid over white.

    Raises:
        UnreadableImageError: naming the path, for whatever Pillow cannot decode to the last row.

    """
    try:
        with Image.open(path) as image:
            image.load()
            return to_rgb(ImageOps.exif_transpose(image))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = str(error).replace(repr(str(path)), "it").rstrip(".")
        raise UnreadableImageError(f"cannot read the image {path}: {reason}.") from error


def to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith(("I", "F")):
        return _eight_bits(image).convert("RGB")
    if image.mode == "LAB":
        to_srgb = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
        return ImageCms.applyTransform(image, to_srgb)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits or of floats; its full range is that of the type it was most likely written with."""
    if image.mode.startswith("I;16"):
        image = image.convert("I")
        top = 65535
    else:
        _, highest = image.getextrema()
        top = next((top for top in (1, 255, 65535) if highest <= top), highest)
        if image.mode == "I" and top == 1:
            top = 255
    return image.convert("F").point(lambda value: value * (255 / top)).convert("L")
