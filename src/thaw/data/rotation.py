"""Rotate and mirror whole batches of images on their device, with one angle per image."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

_PIXELS_AT_ONCE = 2**16  # pixels that a CPU rotates at a time, so that intermediate results fit into the CPU's cache


class Crop(NamedTuple):
    """A random crop, and how to rotate and mirror it. For a batch of crops, each tensor has one more dimension."""

    pixels: torch.Tensor  # uint8 (3, S, S)
    angle: torch.Tensor  # float32 (), degrees anticlockwise
    mirrored: torch.Tensor  # bool (), whether to swap left and right after the rotation


def apply_augmentation(batch: Sequence) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotate and mirror a loader's batch if it holds crops; return (images uint8 (N, 3, S, S), labels (N,))."""
    images, labels = batch
    return rotate(images) if isinstance(images, Crop) else images, labels


def rotate(batch: Crop) -> torch.Tensor:
    """Rotate crops by nearest neighbour, with black corners, then mirror some; return uint8 (N, 3, S, S).

    The result equals that of torchvision's `rotate` and `horizontal_flip`, except for single pixels whose source lies
    halfway between two pixels.
    """
    count, _, _, size = batch.pixels.shape
    images = torch.empty_like(batch.pixels, memory_format=torch.contiguous_format)
    step = max(1, _PIXELS_AT_ONCE // size**2) if images.device.type == "cpu" else count
    for part in (slice(start, start + step) for start in range(0, count, step)):
        sources = _sources(batch.angle[part], batch.mirrored[part], size)[:, None].expand(-1, 3, -1)
        torch.gather(_bordered(batch.pixels[part]), 2, sources, out=images[part].flatten(2))
    return images


def _bordered(pixels: torch.Tensor) -> torch.Tensor:
    """Add a black border, the source of all pixels outside an image; return uint8 (N, 3, (S + 2)^2)."""
    count, channels, _, size = pixels.shape
    bordered = pixels.new_zeros(count, channels, size + 2, size + 2)
    bordered[..., 1:-1, 1:-1] = pixels
    return bordered.flatten(2)


def _sources(angles: torch.Tensor, mirrored: torch.Tensor, size: int) -> torch.Tensor:
    """Return the index of each pixel's source in the bordered image, int64 (N, S * S).

    The source's row is a sum of two terms, one for the pixel's row and one for its column. So is the source's column.
    """
    radians = angles.deg2rad()
    cos, sin = radians.cos()[:, None], radians.sin()[:, None]
    along = torch.linspace((1 - size) / 2, (size - 1) / 2, size, device=angles.device)
    across = torch.where(mirrored[:, None], -along, along)
    rows = _nearest(sin * across, cos * along, size)
    columns = _nearest(cos * across, -sin * along, size)
    return columns.add_(rows, alpha=size + 2).long().flatten(1)


def _nearest(by_column: torch.Tensor, by_row: torch.Tensor, size: int) -> torch.Tensor:
    """Return each output pixel's source row (or column) in the bordered image, rounded and clipped: int32 (N, S, S)."""
    centre = (size + 1) / 2 + 0.5  # 0.5 makes truncation round
    return (by_column[:, None, :] + (by_row + centre)[:, :, None]).clamp_(0, size + 1).int()
