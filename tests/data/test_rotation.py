import pytest
import torch
from torchvision.transforms.v2 import functional as F

from thaw.data.rotation import Crop, apply_augmentation, rotate


def crops(count, size, most=15.0):
    random = torch.Generator().manual_seed(size)
    pixels = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=random)
    angles = torch.empty(count).uniform_(-most, most, generator=random)
    return Crop(pixels, angles, torch.rand(count, generator=random) < 0.5)


def one_by_one(batch):
    images = [F.rotate(pixels, angle.item()) for pixels, angle, _ in zip(*batch, strict=True)]
    return torch.stack(
        [
            F.horizontal_flip(image) if mirrored else image
            for image, mirrored in zip(images, batch.mirrored, strict=True)
        ]
    )


@pytest.mark.parametrize(("size", "most"), [(7, 15), (64, 180), (129, 15), (300, 30)])
def test_a_batch_is_turned_as_torchvision_turns_each_image(size, most):
    batch = crops(9, size, most)
    differs = (rotate(batch) != one_by_one(batch)).any(1).flatten(1).sum(1)
    assert differs.max() <= 1e-4 * size**2 + 1, "but for sources halfway between two pixels"


def test_an_image_that_is_not_to_be_turned_stays_as_it_is():
    batch = crops(4, 31, most=0)
    assert rotate(batch).equal(torch.where(batch.mirrored[:, None, None, None], batch.pixels.flip(3), batch.pixels))


@pytest.mark.parametrize("size", [16, 400])
def test_an_image_does_not_depend_on_its_batch(size):
    batch = crops(20, size)
    alone = [rotate(Crop(*(tensor[index : index + 1] for tensor in batch))) for index in range(20)]
    assert rotate(batch).equal(torch.cat(alone))


def test_what_is_no_crop_is_not_turned():
    images, labels = torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 1])
    assert apply_augmentation([images, labels]) == (images, labels)


@pytest.mark.gpu
def test_a_gpu_turns_as_the_cpu_does():
    batch = crops(9, 64)
    differs = (rotate(Crop(*(tensor.cuda() for tensor in batch))).cpu() != rotate(batch)).any(1).flatten(1).sum(1)
    assert differs.max() <= 2
