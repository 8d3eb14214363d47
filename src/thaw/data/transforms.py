"""The tutorial's transforms without normalisation, which is the network's first stage (`thaw.models.staged`)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from PIL import Image
from torchvision.transforms import v2

from thaw.data.preprocessing import Preprocessing
from thaw.data.rotation import Crop

# Photographs are loaded at twice the size that the network sees. Crops can zoom in, and resizing twice blurs nothing.
# For networks of 224 pixels, pictures of 500 x 375 pixels are loaded at full size.
_ROOM = 2


@dataclass(frozen=True)
class TrainTransform:
    """A random crop of `size` pixels, a random angle of up to `rotation` degrees, and whether to mirror it.

    `crop_scale` bounds the share of the image's area that a crop covers.
    """

    size: int
    crop_scale: tuple[float, float]
    rotation: float
    interpolation: str = "bilinear"

    def __call__(self, image: Image.Image) -> Crop:
        pixels = self._crop(image)
        angle = torch.empty(()).uniform_(-self.rotation, self.rotation)
        return Crop(pixels, angle, torch.rand(()) < 0.5)

    @cached_property
    def _crop(self) -> v2.Compose:
        interpolation = v2.InterpolationMode(self.interpolation)
        crop = v2.RandomResizedCrop(self.size, scale=self.crop_scale, interpolation=interpolation)
        return v2.Compose([crop, v2.PILToTensor()])


def mixup_or_cutmix(num_classes: int, mixup_alpha: float, cutmix_alpha: float) -> v2.Transform:
    """Return a transform of batches (images, labels) that applies MixUp or CutMix with equal probability."""
    return v2.RandomChoice(
        [v2.MixUp(alpha=mixup_alpha, num_classes=num_classes), v2.CutMix(alpha=cutmix_alpha, num_classes=num_classes)]
    )


def eval_transform(preprocessing: Preprocessing) -> Callable[[Image.Image], torch.Tensor]:
    """Return a transform of PIL images to uint8 (3, crop, crop), the centre of the resized image."""
    interpolation = v2.InterpolationMode(preprocessing.interpolation)
    resize = v2.Resize(preprocessing.resize, interpolation=interpolation)
    return v2.Compose([resize, v2.CenterCrop(preprocessing.crop), v2.PILToTensor()])


def read_size(short_side: int) -> int:
    """Return the short side, in pixels, at which to load images that a transform resizes to `short_side`."""
    return _ROOM * short_side
