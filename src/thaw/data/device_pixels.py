"""Keep decoded images in a device's memory, and crop and resize them there in batches."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from thaw.data.batch_resize import FILTERS, Resize, is_vertical_first, passes_order
from thaw.data.device_resize import resize_boxes
from thaw.data.pixel_cache import StoredPixels
from thaw.data.transfer import sent

_CHUNK = 2**28  # bytes copied to the device at a time
_PIXELS_AT_ONCE = 2**24  # source pixels that a CPU resizes at a time
_SHARE_AT_ONCE = 1 / 50  # share of a GPU's memory that resizing may use at a time
_BYTES_PER_PIXEL = 23  # per source pixel: an index of 8 bytes, 3 channels as uint8, and the same 3 as float32


def device_bytes(chosen: float | str, device: torch.device) -> float:
    """Return how many bytes of images or features `device` may hold; `chosen` is a number of GB or "auto".

    "auto" allows a quarter of a GPU's memory, and 0 bytes on other devices.
    """
    if not isinstance(chosen, str):
        return chosen * 1e9
    return torch.cuda.get_device_properties(device).total_memory / 4 if device.type == "cuda" else 0


class DevicePixels:
    """Decoded images on a device: `flat`, uint8, holds all pixels; `sizes`, int64 (N, 2), holds (height, width)."""

    def __init__(self, flat: torch.Tensor, sizes: np.ndarray):
        self.flat, self.sizes = flat, sizes
        bytes_used = 3 * sizes.prod(1)
        self.starts = np.cumsum(bytes_used) - bytes_used

    @classmethod
    def copied(cls, stored: StoredPixels, device: torch.device) -> "DevicePixels":
        flat = torch.empty(len(stored.pixels), dtype=torch.uint8, device=device)
        for start in range(0, len(stored.pixels), _CHUNK):
            part = np.array(stored.pixels[start : start + _CHUNK])
            flat[start : start + len(part)] = torch.from_numpy(part).to(device)
        return cls(flat, stored.sizes)

    @classmethod
    def gathered(cls, groups: Iterable[Sequence[torch.Tensor]]) -> "DevicePixels":
        """Concatenate the images of all groups, each uint8 (3, H, W) on the device."""
        parts, sizes = [], []
        for group in groups:
            sizes += [image.shape[1:] for image in group]
            parts.append(torch.cat([image.flatten(1) for image in group], dim=1).T.flatten())
        return cls(torch.cat(parts), np.array(sizes))

    def __getitem__(self, index: int) -> np.ndarray:
        """Return image number `index` as uint8 (H, W, 3) in the CPU's memory."""
        start, (height, width) = int(self.starts[index]), self.sizes[index].tolist()
        return self.flat[start : start + 3 * height * width].view(height, width, 3).cpu().numpy()

    def batch(self, indices: Sequence[int]) -> "DeviceImages":
        return DeviceImages(self, list(indices))


class DeviceImages:
    """The batch of images `pixels[indices]`, which can be resized by bilinear or bicubic interpolation."""

    def __init__(self, pixels: DevicePixels, indices: list[int]):
        self._pixels, self._indices = pixels, indices
        self.shapes = pixels.sizes[indices]

    def can_resize(self, size: int, interpolation: str) -> bool:
        return interpolation in FILTERS and passes_order(interpolation) is not None

    def resized(self, resizes: Sequence[Resize], size: int, interpolation: str) -> torch.Tensor:
        vertical = bool(passes_order(interpolation))
        axes, swapped = self._axes(resizes), np.array([vertical and is_vertical_first(one) for one in resizes])
        axes[swapped] = axes[swapped, ::-1]
        firsts = self._pixels.starts[self._indices] // 3
        pixels = self._pixels.flat.view(-1, 3)
        numbers = torch.from_numpy(np.column_stack([firsts, swapped, axes.reshape(len(axes), -1)]))
        numbers, at_once = sent(numbers, pixels.device), _at_once(axes, pixels.device)
        parts = [slice(start, start + at_once) for start in range(0, len(axes), at_once)]
        boxes = [(numbers[part, 0], numbers[part, 2:].view(-1, 2, 5), axes[part]) for part in parts]
        resized = torch.cat([resize_boxes(pixels, *some, size, interpolation) for some in boxes])
        return torch.where(numbers[:, 1, None, None, None] > 0, resized.mT, resized) if swapped.any() else resized

    def _axes(self, resizes: Sequence[Resize]) -> np.ndarray:
        """Return the `axes` of `resize_boxes`, int64 (N, 2, 5), for images that are resized horizontally first."""
        top, left, height, width, new_height, new_width, kept_top, kept_left = np.array(resizes).T
        rows = self.shapes[:, 1], top, height, new_height, kept_top
        columns = np.ones(len(resizes), int), left, width, new_width, kept_left
        return np.array([rows, columns]).transpose(2, 0, 1)


def _at_once(axes: np.ndarray, device: torch.device) -> int:
    pixels = _PIXELS_AT_ONCE
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
        pixels = int(_SHARE_AT_ONCE * memory) // _BYTES_PER_PIXEL
    return max(1, pixels // int(axes[:, :, 2].max(0).prod()))
