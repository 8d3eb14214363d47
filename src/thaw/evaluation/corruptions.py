"""Image corruptions: four kinds from ImageNet-C (Hendrycks and Dietterich 2019).

The strengths are severities 1, 3 and 5 of "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations". Corruptions change the crop that the network sees. They are deterministic.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageFilter

_REFERENCE_SIDE = 224  # the strengths were chosen for crops with this side, in pixels


@dataclass(frozen=True)
class Corruption:
    """A corruption of one kind and strength. `unit` describes `strength`; `severity` is 1 to 5, as in ImageNet-C."""

    kind: str
    severity: int
    strength: float
    unit: str

    @property
    def description(self) -> str:
        """The strength with its unit, such as `quality 15`."""
        return f"{self.strength:g} {self.unit}" if self.kind == "blur" else f"{self.unit} {self.strength:g}"

    def __call__(self, crop: torch.Tensor, index: int) -> torch.Tensor:
        """Return the corrupted crop, uint8 (3, S, S) like `crop`; `index`, at least 0, is the seed of random noise."""
        pixels = crop.permute(1, 2, 0).numpy()
        changed = _CHANGES[self.kind](pixels, self.strength, index)
        return torch.from_numpy(np.ascontiguousarray(changed.transpose(2, 0, 1)))


def blurred(pixels: np.ndarray, sigma: float, index: int) -> np.ndarray:
    """Return the pixels, uint8 (S, S, 3), with Gaussian blur.

    `sigma` > 0 is the standard deviation in pixels for a crop of 224 × 224. For another size, `sigma` is scaled in
    proportion. Pillow approximates the blur by three box filters.
    """
    radius = sigma * pixels.shape[0] / _REFERENCE_SIDE
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


def noisy(pixels: np.ndarray, deviation: float, index: int) -> np.ndarray:
    """Return the pixels, uint8 (S, S, 3), with Gaussian noise in each channel.

    `deviation` is the standard deviation of the noise, on a scale from 0 (black) to 1 (white).
    """
    noise = np.random.default_rng(index).standard_normal(pixels.shape, dtype=np.float32)
    return _eight_bits(pixels / np.float32(255) + np.float32(deviation) * noise)


def compressed(pixels: np.ndarray, quality: float, index: int) -> np.ndarray:
    """Return the pixels, uint8 (S, S, 3), after JPEG with 4:2:0 chroma subsampling; `quality` is 1 (worst) to 95."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "jpeg", quality=int(quality), subsampling="4:2:0")
    return np.asarray(Image.open(file).convert("RGB"))


def brightened(pixels: np.ndarray, more: float, index: int) -> np.ndarray:
    """Return the pixels, uint8 (S, S, 3), after adding `more` to HSV's value channel, whose range is 0 to 1."""
    scaled = pixels / np.float32(255)
    value = scaled.max(2, keepdims=True)
    raised = np.minimum(value + np.float32(more), 1)
    coloured = scaled * (raised / np.maximum(value, np.float32(1 / 255)))
    return _eight_bits(np.where(value > 0, coloured, raised))  # black has no hue, so it becomes grey


def _eight_bits(scaled: np.ndarray) -> np.ndarray:
    return (np.clip(scaled, 0, 1) * 255).round().astype(np.uint8)


_CHANGES: dict[str, Callable[[np.ndarray, float, int], np.ndarray]] = {
    "blur": blurred,
    "noise": noisy,
    "JPEG": compressed,
    "brightness": brightened,
}
_SEVERITIES = (1, 3, 5)
_STRENGTHS = {
    "blur": ((1, 3, 6), "px in 224"),
    "noise": ((0.08, 0.18, 0.38), "deviation"),
    "JPEG": ((25, 15, 7), "quality"),
    "brightness": ((0.1, 0.3, 0.5), "plus"),
}
CORRUPTIONS = tuple(
    Corruption(kind, severity, strength, unit)
    for kind, (strengths, unit) in _STRENGTHS.items()
    for severity, strength in zip(_SEVERITIES, strengths, strict=True)
)
