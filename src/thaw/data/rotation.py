"""Turning and mirroring whole batches on the device that computes with them, each image in its own way."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

_CACHED = 2**16  # pixels that are worked on at once on a CPU, whose cache holds what is computed for them


class Crop(NamedTuple):
    """What a loader gives of a training image, or a batch of it, whose tensors have one dimension more."""

    pixels: torch.Tensor  # uint8 (3, S, S)
    angle: torch.Tensor  # float32 (), degrees against the clock
    mirrored: torch.Tensor  # bool (), left to right, once turned


def apply_augmentation(batch: Sequence) -> tuple[torch.Tensor, torch.Tensor]:
    """(images uint8 (N, 3, S, S), labels (N,)) of a batch from a loader, whose images may have to be turned yet."""
    images, labels = batch
    return turned(images) if isinstance(images, Crop) else images, labels


def turned(batch: Crop) -> torch.Tensor:
    """uint8 (N, 3, S, S): of each image the nearest pixels, and black where there are none.

    As torchvision's `rotate` and `horizontal_flip`, but for single pixels whose source lies halfway between two.
    """
    count, _, _, size = batch.pixels.shape
    images = torch.empty_like(batch.pixels, memory_format=torch.contiguous_format)
    step = max(1, _CACHED // size**2) if images.device.type == "cpu" else count
    for part in (slice(start, start + step) for start in range(0, count, step)):
        sources = _sources(batch.angle[part], batch.mirrored[part], size)[:, None].expand(-1, 3, -1)
        torch.gather(_bordered(batch.pixels[part]), 2, sources, out=images[part].flatten(2))
    return images


def _bordered(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 (N, 3, (S + 2)^2): the images in a black border, which stands for all that lies outside."""
    count, channels, _, size = pixels.shape
    bordered = pixels.new_zeros(count, channels, size + 2, size + 2)
    bordered[..., 1:-1, 1:-1] = pixels
    return bordered.flatten(2)


def _sources(angles: torch.Tensor, mirrored: torch.Tensor, size: int) -> torch.Tensor:
    """int64 (N, S * S): where in the bordered image each pixel comes from.

    The row that it comes from is a sum of what its own row and its own column add to it, and so is the column.
    """
    radians = angles.deg2rad()
    cos, sin = radians.cos()[:, None], radians.sin()[:, None]
    along = torch.linspace((1 - size) / 2, (size - 1) / 2, size, device=angles.device)
    across = torch.where(mirrored[:, None], -along, along)
    rows = _nearest(sin * across, cos * along, size)
    columns = _nearest(cos * across, -sin * along, size)
    return columns.add_(rows, alpha=size + 2).long().flatten(1)


def _nearest(by_column: torch.Tensor, by_row: torch.Tensor, size: int) -> torch.Tensor:
    """int32 (N, S, S): positions in the bordered image, those outside on its border."""
    centre = (size + 1) / 2 + 0.5  # the half makes cutting off what it is to round
    return (by_column[:, None, :] + (by_row + centre)[:, :, None]).clamp_(0, size + 1).int()
