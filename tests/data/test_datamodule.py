import pytest
import torch
from batches import batches, same
from PIL import Image
from torchvision import transforms

from thaw.data import folders
from thaw.data.datamodule import ImageFolderDataModule, image_folders
from thaw.data.images import load_rgb
from thaw.data.preprocessing import TUTORIAL
from thaw.data.rotation import apply_augmentation
from thaw.data.transforms import EvalTransform
from thaw.errors import UnreadableImageError, UserError
from thaw.models.staged import IMAGENET_MEAN, IMAGENET_STD, Normalize


def test_batches_are_uint8_of_the_sizes_asked_for(image_folder):
    data = image_folders(image_folder(), image_size=24, train_size=32, batch_size=4)
    images, labels = apply_augmentation(next(iter(data.train_dataloader())))
    assert (images.dtype, images.shape, labels.shape) == (torch.uint8, (4, 3, 32, 32), (4,))
    assert next(iter(data.val_dataloader()))[0].shape[-2:] == (24, 24)


def test_validation_sees_what_the_tutorials_transforms_give(image_folder):
    data = image_folders(image_folder(size=90), image_size=56)
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
        data = image_folders(root, 16, batch_size=5, num_workers=count)
        data.prepare_pixels()
        return list(map(apply_augmentation, data.train_dataloader()))

    for (images, labels), (expected_images, expected_labels) in zip(batches(workers), batches(0), strict=True):
        assert images.equal(expected_images)
        assert labels.equal(expected_labels)


def test_the_description_counts_images_and_names_what_is_not_read(image_folder):
    root = image_folder(train=6, val=5)
    Image.new("P", (4, 4)).save(root / "train" / "ants" / "notFound.gif")
    described = image_folders(root).describe()
    assert "12 training and 10 validation images of 2 classes (ants, bees)" in described
    assert "train/ants/notFound.gif" in described


@pytest.mark.parametrize("option", [{"batch_size": 0}, {"image_size": "big"}, {"num_workers": -1}, {"train_size": 0}])
def test_numbers_that_make_no_sense_are_refused(image_folder, option):
    (name,) = option
    with pytest.raises(UserError, match=f"data.{name}=.* must be a whole number of at least"):
        image_folders(image_folder(), **option)


def test_a_negative_seed_is_refused(image_folder):
    with pytest.raises(UserError, match="seed=-1 must be a whole number of at least 0"):
        image_folders(image_folder(), seed=-1)


@pytest.mark.parametrize("option", [{"rotation": -1}, {"rotation": "15"}, {"pixels_gb": -1}, {"device_gb": None}])
def test_amounts_that_make_no_sense_are_refused(image_folder, option):
    (name,) = option
    with pytest.raises(UserError, match=f"data.{name}=.* must be .*a number of at least 0"):
        image_folders(image_folder(), **option)


def test_augmentation_that_is_neither_on_nor_off_is_refused(image_folder):
    with pytest.raises(UserError, match=r"data\.augment='no' is neither true nor false"):
        image_folders(image_folder(), augment="no")


def test_without_augmentation_training_images_are_seen_as_validation_images_are(image_folder):
    data = image_folders(image_folder(), image_size=16, train_size=24, augment=False, batch_size=100)
    images, labels = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    order = [index for index, _ in data.train_dataloader().sampler]
    expected = [EvalTransform(TUTORIAL.scaled(24))(load_rgb(data.train.paths[index], 2 * 27)) for index in order]
    assert images.equal(torch.stack(expected))
    assert labels.tolist() == [data.train.targets[index] for index in order]


def test_kept_pixels_change_nothing(image_folder, monkeypatch):
    root = image_folder(size=90)
    expected = batches(image_folders(root, 24, batch_size=5))
    data = image_folders(root, 24, batch_size=5)
    data.setup("fit")
    monkeypatch.setattr(folders, "load_rgb", None)
    assert same(batches(data), expected)


def test_pixels_are_prepared_once_and_not_for_predicting(image_folder, monkeypatch):
    prepared = []
    monkeypatch.setattr(ImageFolderDataModule, "prepare_pixels", lambda data: prepared.append(data))
    data = image_folders(image_folder(), 24)
    data.setup("predict")
    assert not prepared
    data.setup("fit")
    assert prepared == [data]


def test_images_that_need_too_much_room_are_decoded_each_time_which_is_logged(image_folder, caplog, tmp_path):
    caplog.set_level("INFO")
    root = image_folder(size=90)
    data = image_folders(root, 24, batch_size=5, pixels_gb=1e-4)
    data.setup("fit")
    assert "data.pixels_gb=0.0001" in caplog.text
    assert not (tmp_path / "thaw-cache" / "pixels").exists()
    assert same(batches(data), batches(image_folders(root, 24, batch_size=5)))


def test_nothing_is_kept_where_no_room_is_given(image_folder, tmp_path):
    image_folders(image_folder(), 24, pixels_gb=0).setup("fit")
    assert not (tmp_path / "thaw-cache").exists()


def test_an_image_that_cannot_be_decoded_is_named_before_training(image_folder):
    root = image_folder(size=90)
    path = root / "train" / "bees" / "4.png"
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UnreadableImageError, match=r"bees/4\.png"):
        image_folders(root, 24).setup("fit")
