"""Decoded images on a device, which crops and resizes them by the batch."""

from collections.abc import Sequence

import numpy as np
import torch

from thaw.data.batch_resize import FILTERS, PRECISION, Resize, filter_weights, is_vertical_first, passes_order
from thaw.data.pixel_cache import StoredPixels

_CHUNK = 2**28  # bytes copied to the device at a time
_HALF = 2**11  # of a weight's 22 bits
_PIXELS_AT_ONCE = 2**25  # gathered source pixels, each with an index of 8 bytes


def auto_device_bytes(device: torch.device) -> float:
    """Return how many bytes of decoded images `device` can hold beside the training: a quarter of a GPU's memory."""
    return torch.cuda.get_device_properties(device).total_memory / 4 if device.type == "cuda" else 0


class DevicePixels:
    """The decoded images of a split on `device`; see `thaw.data.pixel_cache.StoredPixels`."""

    def __init__(self, stored: StoredPixels, device: torch.device):
        self.stored, self.device = stored, device
        self.flat = torch.empty(len(stored.pixels), dtype=torch.uint8, device=device)
        for start in range(0, len(stored.pixels), _CHUNK):
            part = np.array(stored.pixels[start : start + _CHUNK])
            self.flat[start : start + len(part)] = torch.from_numpy(part).to(device)
        bytes_used = 3 * stored.sizes.prod(1)
        self.starts = np.cumsum(bytes_used) - bytes_used

    def __getitem__(self, index: int) -> np.ndarray:
        return self.stored[index]

    def batch(self, indices: Sequence[int]) -> "DeviceImages":
        return DeviceImages(self, list(indices))


class DeviceImages:
    """Some images of `pixels`, which can be resized by bilinear or bicubic interpolation."""

    def __init__(self, pixels: DevicePixels, indices: list[int]):
        self._pixels, self._indices = pixels, indices
        self.shapes = pixels.stored.sizes[indices]

    def can_resize(self, size: int, interpolation: str) -> bool:
        return interpolation in FILTERS and passes_order(interpolation) is not None

    def resized(self, resizes: Sequence[Resize], size: int, interpolation: str) -> torch.Tensor:
        """Return squares of `size` from resized boxes, uint8 (N, 3, size, size), equal to Pillow's."""
        vertical = bool(passes_order(interpolation))
        axes, swapped = self._axes(resizes), np.array([vertical and is_vertical_first(one) for one in resizes])
        axes[swapped] = axes[swapped, ::-1]
        starts, at_once = self._pixels.starts[self._indices], _at_once(axes)
        parts = [slice(start, start + at_once) for start in range(0, len(axes), at_once)]
        found = [_resized(self._pixels.flat, starts[part], axes[part], size, interpolation) for part in parts]
        resized, transposed = torch.cat(found), torch.from_numpy(swapped)
        if swapped.any():
            resized[transposed] = resized[transposed].mT
        return resized

    def _axes(self, resizes: Sequence[Resize]) -> np.ndarray:
        """Return int64 (N, 2, 5): by axis, bytes between pixels, the box's start and length, new length, kept start."""
        top, left, height, width, new_height, new_width, kept_top, kept_left = np.array(resizes).T
        strides = 3 * self.shapes[:, 1], np.full(len(resizes), 3)
        down, across = (strides[0], top, height, new_height, kept_top), (strides[1], left, width, new_width, kept_left)
        return np.array([down, across]).transpose(2, 0, 1)


def _at_once(axes: np.ndarray) -> int:
    return max(1, _PIXELS_AT_ONCE // int(3 * axes[:, :, 2].max(0).prod()))


def _resized(flat: torch.Tensor, starts: np.ndarray, axes: np.ndarray, size: int, interpolation: str) -> torch.Tensor:
    """Resize along the second axis and then along the first; return uint8 (N, 3, size, size)."""
    numbers = torch.from_numpy(np.column_stack([starts, axes.reshape(len(axes), -1)]))
    start, *columns = numbers.to(flat.device, non_blocking=True).T[:, :, None]
    places, weights = [], []
    for axis, longest in zip((columns[:5], columns[5:]), axes[:, :, 2].max(0).tolist(), strict=True):
        stride, first, length, new_length, kept = axis
        steps = torch.arange(longest, device=flat.device)
        places.append(stride * (first + torch.minimum(steps, length - 1)))
        weights.append(_weights(length, new_length, kept, longest, size, interpolation))
    channels = torch.arange(3, device=flat.device)[:, None]
    source = flat[(start + places[0])[:, :, None, None] + channels + places[1][:, None, None, :]].flatten(1, 2)
    lines = _rounded(*(source.float() @ part.mT for part in weights[1])).view(len(axes), -1, 3 * size)
    resized = _rounded(*(part @ lines for part in weights[0])).view(-1, size, 3, size)
    return resized.permute(0, 2, 1, 3).to(torch.uint8, memory_format=torch.contiguous_format)


def _rounded(higher: torch.Tensor, lower: torch.Tensor) -> torch.Tensor:
    sums = higher.int() * _HALF + lower.int()
    return ((sums + PRECISION // 2) >> (PRECISION.bit_length() - 1)).clamp_(0, 255).float()


def _weights(
    length: torch.Tensor, new_length: torch.Tensor, kept: torch.Tensor, most: int, size: int, interpolation: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the higher and lower half of Pillow's weights, of `most` source pixels for `size` pixels from `kept` on.

    Both are float32 (N, size, most). Pixels times half a weight are whole numbers, exact in float32 and TF32.
    `length`, `new_length` and `kept` are (N, 1).
    """
    scale = length.double() / new_length
    centres = (torch.arange(size, device=length.device) + kept + 0.5) * scale
    places = torch.arange(most, device=length.device)
    shrink = (1 / scale.clamp(min=1))[:, :, None]
    distances = ((places - centres[:, :, None] + 0.5) * shrink).abs()
    weights = filter_weights(distances, interpolation) * (places < length)[:, None]
    shares = weights / weights.sum(2, keepdim=True) * PRECISION
    whole = (shares + 0.5 * shares.sign()).trunc()
    higher = (whole / _HALF).floor()
    return higher.float(), (whole - _HALF * higher).float()
