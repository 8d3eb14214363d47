"""The tutorial's transforms; they end in uint8, since normalising belongs to the net (`thaw.models.staged`)."""

from torchvision.transforms import v2


def train_transform(size: int, crop_scale: tuple[float, float], rotation: float) -> v2.Compose:
    """PIL image -> uint8 (3, size, size): a random crop, turned by up to `rotation` degrees, mirrored or not.

    `crop_scale` bounds the share of the image's area that a crop covers.
    """
    return v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=crop_scale),
            v2.RandomRotation(rotation),
            v2.RandomHorizontalFlip(),
            v2.PILToTensor(),
        ]
    )


def mixup_or_cutmix(num_classes: int, mixup_alpha: float, cutmix_alpha: float) -> v2.Transform:
    """Of batches (images, labels), either mix with the same probability."""
    return v2.RandomChoice(
        [v2.MixUp(alpha=mixup_alpha, num_classes=num_classes), v2.CutMix(alpha=cutmix_alpha, num_classes=num_classes)]
    )


def eval_transform(size: int) -> v2.Compose:
    """PIL image -> uint8 (3, size, size): the centre of the resized image."""
    return v2.Compose([v2.Resize(resized(size)), v2.CenterCrop(size), v2.PILToTensor()])


def resized(size: int) -> int:
    """The short side, in pixels, from which a square of `size` is cropped: 256 for 224."""
    return round(size * 256 / 224)
