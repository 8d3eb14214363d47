"""Training and validation transforms. They do not normalise: the network's first stage does (`thaw.models.staged`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from PIL import Image
from torchvision.transforms import v2

from thaw.data.batch_resize import ImageBatch, Resize
from thaw.data.preprocessing import Preprocessing
from thaw.data.random_boxes import random_boxes
from thaw.data.rotation import Crop

# Images are loaded at up to twice the size that the network sees: crops can zoom in, and resizing twice does not blur.
# For inputs of 224 x 224 pixels, an image of 500 x 375 pixels is therefore loaded at full size.
_ROOM = 2


@dataclass(frozen=True)
class TrainTransform:
    """Return a random crop, resized to `size` x `size` pixels, and how to rotate and mirror it in a batch later.

    `crop_scale` bounds the share of the image's area that a crop covers. `rotation` is the largest angle in degrees.
    """

    size: int
    crop_scale: tuple[float, float]
    rotation: float
    interpolation: str = "bilinear"

    def __call__(self, image: Image.Image) -> Crop:
        pixels = self._crop(image)
        angle = torch.empty(()).uniform_(-self.rotation, self.rotation)
        return Crop(pixels, angle, torch.rand(()) < 0.5)

    def of_batch(self, images: ImageBatch, seeds: Sequence[int]) -> Crop | None:
        """Return, for each image, the same crop as a call after `torch.manual_seed` with the image's seed.

        Return None if there are no seeds, or if single calls are necessary or faster.
        """
        if not seeds or not images.can_resize(self.size, self.interpolation):
            return None
        boxes, angles, mirrored = random_boxes(seeds, images.shapes, self.crop_scale, self.rotation)
        resizes = [Resize(top, left, high, wide, self.size, self.size) for top, left, high, wide in boxes.tolist()]
        return Crop(images.resized(resizes, self.size, self.interpolation), angles, mirrored)

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


@dataclass(frozen=True)
class EvalTransform:
    """Resize a PIL image and return its centre, uint8 (3, crop, crop)."""

    preprocessing: Preprocessing

    def __call__(self, image: Image.Image) -> torch.Tensor:
        return self._centre(image)

    def of_batch(self, images: ImageBatch, seeds: Sequence[int]) -> torch.Tensor | None:
        """Return the centre of each resized image, or None if single calls are necessary or faster."""
        resize, crop = self.preprocessing.resize, self.preprocessing.crop
        if resize < crop or not images.can_resize(crop, self.preprocessing.interpolation):
            return None
        resizes = [_central_square(height, width, resize, crop) for height, width in images.shapes.tolist()]
        return images.resized(resizes, crop, self.preprocessing.interpolation)

    @cached_property
    def _centre(self) -> v2.Compose:
        resize = v2.Resize(self.preprocessing.resize, v2.InterpolationMode(self.preprocessing.interpolation))
        return v2.Compose([resize, v2.CenterCrop(self.preprocessing.crop), v2.PILToTensor()])


def _central_square(height: int, width: int, resize: int, crop: int) -> Resize:
    """Return the resize that equals torchvision's `Resize` followed by `CenterCrop`."""
    short, long = sorted((height, width))
    sides = (resize, int(resize * long / short))
    new_height, new_width = sides if height <= width else sides[::-1]
    corner = round((new_height - crop) / 2), round((new_width - crop) / 2)
    return Resize(0, 0, height, width, new_height, new_width, *corner)


def read_size(short_side: int) -> int:
    """Return the short side, in pixels, at which to load images that a transform resizes to `short_side`."""
    return _ROOM * short_side
