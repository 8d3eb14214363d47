"""Many small images that are transformed at once: bit for bit what torchvision and Pillow make of each."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import default_collate

from thaw.data import batch_resize, folders
from thaw.data.batch_resize import HostImages, Resize
from thaw.data.datamodule import image_folders
from thaw.data.device_pixels import DevicePixels
from thaw.data.preprocessing import Preprocessing
from thaw.data.transforms import EvalTransform, TrainTransform

SIDES = {"equal": (32, 33), "any": (8, 100), "tiny": (1, 12)}


def some_images(sides, count=60):
    random = np.random.default_rng(0)
    shapes = random.integers(*SIDES[sides], (count, 2))
    shapes[:2] = (4, 60), (60, 4)  # no random box fits; their centre is taken
    return [random.integers(0, 256, (*shape, 3)).astype(np.uint8) for shape in shapes]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("size", [24, 33])
def test_crops_of_a_batch_equal_those_of_each_image(sides, size, interpolation):
    images = some_images(sides)
    seeds = np.random.default_rng(1).integers(2**63, size=len(images)).tolist()
    transform = TrainTransform(size, (0.08, 1.0), 15, interpolation)

    def alone(image, seed):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return transform(Image.fromarray(image))

    batch = transform.of_batch(HostImages(images), seeds)
    assert batch is not None
    for found, wanted in zip(batch, default_collate(list(map(alone, images, seeds))), strict=True):
        assert found.dtype == wanted.dtype and found.equal(wanted)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("sides", SIDES)
def test_centres_of_a_batch_equal_those_of_each_image(sides, interpolation):
    images, transform = some_images(sides), EvalTransform(Preprocessing(37, 32, interpolation))
    wanted = torch.stack([transform(Image.fromarray(image)) for image in images])
    assert transform.of_batch(HostImages(images), []).equal(wanted)


@pytest.mark.parametrize(
    ("transform", "side", "seeds"),
    [
        (TrainTransform(224, (0.08, 1.0), 15), 300, [1]),  # Pillow is faster
        (TrainTransform(32, (0.08, 1.0), 15, "lanczos"), 32, [1]),
        (TrainTransform(32, (0.08, 1.0), 15), 32, []),  # the run's own random numbers, in their order
        (EvalTransform(Preprocessing(20, 32)), 32, []),  # the crop has a border
    ],
)
def test_other_images_are_transformed_one_by_one(transform, side, seeds):
    assert transform.of_batch(HostImages([np.zeros((side, side, 3), np.uint8)]), seeds) is None


def test_a_pillow_that_resizes_otherwise_is_not_imitated(monkeypatch):
    monkeypatch.setattr(Image.Image, "resize", lambda image, size, way: Image.new("RGB", size))
    batch_resize.passes_order.cache_clear()
    try:
        assert not HostImages([np.zeros((8, 8, 3), np.uint8)]).can_resize(8, "bilinear")
    finally:
        batch_resize.passes_order.cache_clear()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("sides", SIDES)
def test_crops_on_a_device_are_pillows(sides, interpolation):
    check_crops_on(torch.device("cpu"), some_images(sides), interpolation)


@pytest.mark.gpu
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_crops_on_a_gpu_are_pillows(interpolation):
    check_crops_on(torch.device("cuda"), some_images("any", 50), interpolation)


def check_crops_on(device, images, interpolation):
    random, sizes = np.random.default_rng(2), np.array([image.shape[:2] for image in images])
    tops, lefts = (random.integers(0, sizes[:, axis]) for axis in (0, 1))
    heights, widths = random.integers(1, sizes[:, 0] - tops + 1), random.integers(1, sizes[:, 1] - lefts + 1)
    resizes = [Resize(*box, 30, 28, 2, 1) for box in zip(tops, lefts, heights, widths, strict=True)]
    pixels = DevicePixels.gathered([[torch.from_numpy(image).permute(2, 0, 1).to(device) for image in images]])
    found = pixels.batch(range(len(images))).resized(resizes, 24, interpolation)
    assert (found.device.type, found.dtype) == (device.type, torch.uint8)
    for square, image, (top, left, height, width, *_) in zip(found.cpu(), images, resizes, strict=True):
        box = Image.fromarray(image).crop((left, top, left + width, top + height))
        wanted = np.asarray(box.resize((28, 30), batch_resize.FILTERS[interpolation]))[2:26, 1:25]
        np.testing.assert_array_equal(square.permute(1, 2, 0), wanted)


def test_images_without_room_on_the_device_stay_in_memory(image_folder, monkeypatch, caplog):
    def fail(stored, device):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(folders.DevicePixels, "copied", fail)
    data = image_folders(image_folder(), 24, device_gb=1)
    data.prepare_pixels()
    assert not data.train.is_on_device and len(list(data.train_dataloader())) == 1
    assert "cpu has no room for decoded images, so they stay in RAM" in caplog.text


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("size", [24, 160])
@pytest.mark.parametrize("device_gb", [0, 1], ids=["memory", "device"])
def test_images_in_memory_or_on_a_device_give_the_same_batches(image_folder, split, size, device_gb):
    def batches(data):
        images = getattr(data, split)
        return list(data.view_loader(images, 3 if split == "train" else None))

    root = image_folder(size=150)
    data, stored = (image_folders(root, size, batch_size=5, device_gb=gb) for gb in (0, device_gb))
    stored.prepare_pixels()
    assert stored.train.is_on_device == stored.val.is_on_device == bool(device_gb)
    for (images, labels), (others, other_labels) in zip(batches(data), batches(stored), strict=True):
        assert labels.equal(other_labels)
        assert all(torch.equal(*pair) for pair in zip(images, others, strict=True))
