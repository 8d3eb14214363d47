"""Decode images from untrusted clients into the network's input."""

import io

import torch
from PIL import UnidentifiedImageError

from thaw.data.endings import more_formats, what_to_install_for
from thaw.errors import UnreadableImageError
from thaw.inference.trained_model import TrainedModel

# Not all formats of Pillow, because some start other programs (EPS) and others are rarely tested.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", *more_formats())


class NotAnImageError(UnreadableImageError):
    """The bytes are not an image in one of `FORMATS`."""


def decode(model: TrainedModel, body: bytes) -> torch.Tensor:
    """Decode the bytes of an image file to uint8 (3, crop, crop), exactly as `model.read` decodes the file.

    Raises:
        NotAnImageError: if the bytes are not an image.
        UnreadableImageError: if the image is damaged or too large.

    """
    try:
        return model.read(io.BytesIO(body), FORMATS)
    except UnreadableImageError as error:
        if isinstance(error.__cause__, UnidentifiedImageError):
            needed = what_to_install_for(body)
            sentence = f"this is not an image of a known format ({', '.join(FORMATS)}){needed and f'; {needed}'}."
            raise NotAnImageError(sentence) from error
        raise
