"""Bytes that anyone may have sent -> what the net takes."""

import io

import torch
from PIL import UnidentifiedImageError

from thaw.data.endings import more_formats, what_to_install_for
from thaw.errors import UnreadableImageError
from thaw.inference.trained_model import TrainedModel

# Of the formats that Pillow reads, some start other programs (EPS) or are seldom used and seldom tested.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", *more_formats())


class NotAnImageError(UnreadableImageError):
    """Bytes of none of `FORMATS`."""


def decode(model: TrainedModel, body: bytes) -> torch.Tensor:
    """uint8 (3, crop, crop), equal to `model.read` of a file with these bytes.

    Raises:
        NotAnImageError: if they are none.
        UnreadableImageError: for an image that is damaged, or too large to be decoded.

    """
    try:
        return model.read(io.BytesIO(body), FORMATS)
    except UnreadableImageError as error:
        if isinstance(error.__cause__, UnidentifiedImageError):
            needed = what_to_install_for(body)
            told = f"this is no image of a known format ({', '.join(FORMATS)}){needed and f'; {needed}'}."
            raise NotAnImageError(told) from error
        raise
