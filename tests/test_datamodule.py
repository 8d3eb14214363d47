import pytest
import torch
from PIL import Image
from torchvision import transforms

from thaw.data.datamodule import ImageFolderDataModule
from thaw.data.images import load_rgb
from thaw.errors import UserError
from thaw.models.staged import IMAGENET_MEAN, IMAGENET_STD, Normalize


def test_batches_are_uint8_of_the_sizes_asked_for(image_folder):
    data = ImageFolderDataModule(image_folder(), image_size=24, train_size=32, batch_size=4)
    images, labels = next(iter(data.train_dataloader()))
    assert (images.dtype, images.shape, labels.shape) == (torch.uint8, (4, 3, 32, 32), (4,))
    assert next(iter(data.val_dataloader()))[0].shape[-2:] == (24, 24)


def test_validation_sees_what_the_tutorials_transforms_give(image_folder):
    data = ImageFolderDataModule(image_folder(size=90), image_size=56)
    tutorial = transforms.Compose(
        [
            transforms.Resize(64),
            transforms.CenterCrop(56),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    for index in (0, 7):
        expected = tutorial(load_rgb(data.val.samples[index][0]))
        assert torch.allclose(Normalize()(data.val[index][0][None])[0], expected, atol=1e-6)


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_the_number_of_workers(image_folder, workers):
    root = image_folder()

    def batches(count):
        return list(ImageFolderDataModule(root, 16, batch_size=5, num_workers=count).train_dataloader())

    for (images, labels), (expected_images, expected_labels) in zip(batches(workers), batches(0), strict=True):
        assert images.equal(expected_images)
        assert labels.equal(expected_labels)


def test_the_description_counts_images_and_names_what_is_not_read(image_folder):
    root = image_folder(train=6, val=5)
    Image.new("P", (4, 4)).save(root / "train" / "ants" / "notFound.gif")
    described = ImageFolderDataModule(root).describe()
    assert "12 training and 10 validation images of 2 classes (ants, bees)" in described
    assert "train/ants/notFound.gif" in described


@pytest.mark.parametrize("option", [{"batch_size": 0}, {"image_size": "big"}, {"num_workers": -1}, {"train_size": 0}])
def test_numbers_that_make_no_sense_are_refused(image_folder, option):
    (name,) = option
    with pytest.raises(UserError, match=f"data.{name}=.* must be a whole number of at least"):
        ImageFolderDataModule(image_folder(), **option)


def test_a_negative_seed_is_refused(image_folder):
    with pytest.raises(UserError, match="seed=-1 must be a whole number of at least 0"):
        ImageFolderDataModule(image_folder(), seed=-1)
