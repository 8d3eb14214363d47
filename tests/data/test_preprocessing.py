"""Images are prepared as they were where the published weights were evaluated."""

import numpy as np
import pytest
import torch
import torchvision
from hydra.utils import instantiate
from PIL import Image
from torchvision.transforms import v2

from thaw.data.datamodule import image_folders
from thaw.data.grey import FULL
from thaw.data.preprocessing import TUTORIAL, Preprocessing
from thaw.data.transforms import EvalTransform, TrainTransform
from thaw.models.backbones import build_net
from thaw.models.sizes import demo_preprocessing, published_preprocessing, tutorial_preprocessing

LITE = {"efficientnet_lite0": (256, 224), "efficientnet_lite1": (272, 240), "efficientnet_lite2": (292, 260)}


@pytest.fixture(scope="module")
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (310, 420, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    "name",
    ["resnet34", "resnet50", "efficientnet_b0", "efficientnet_b2", "swin_t", "inception_v3", "vit_h_14"],
)
def test_pixels_are_those_of_torchvisions_published_transforms(image, name):
    published = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    seen = EvalTransform(published_preprocessing(name))(image)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (published.mean, published.std))
    assert torch.allclose(seen / 255, published(image) * std + mean, atol=1e-6)


@pytest.mark.slow
def test_the_one_net_of_torchvisions_that_was_published_with_another_normalisation_has_it():
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(-1, 3, -1, -1)
    assert torch.allclose(build_net("efficientnet_v2_l", 2).normalize(images), images / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize("name", ["resnet18", "resnet10t", "convnext_atto", "tf_efficientnet_b1", "inception_v4"])
def test_pixels_and_normalisation_are_those_of_timms_own_transform(image, name):
    timm = pytest.importorskip("timm", reason="timm is not installed: pip install -e '.[timm]'")
    published = timm.get_pretrained_cfg(name).to_dict()
    config = timm.data.resolve_data_config({}, pretrained_cfg=published)
    seen = EvalTransform(published_preprocessing(f"timm/{name}"))(image)
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    expected = timm.data.create_transform(**config)(image)
    assert torch.allclose((seen / 255 - mean) / std, expected, atol=1e-5)


@pytest.mark.parametrize("name", LITE)
def test_lite_nets_are_prepared_as_by_tensorflow_and_by_timm_but_for_its_rounded_mean(name):
    timm = pytest.importorskip("timm", reason="timm is not installed: pip install -e '.[timm]'")
    resize, crop = LITE[name]
    assert published_preprocessing(name) == Preprocessing(resize, crop, "bicubic")
    assert published_preprocessing(f"timm/tf_{name}") == Preprocessing(resize, crop, "bicubic")
    assert timm.get_pretrained_cfg(f"tf_{name}").input_size[-1] == crop
    normalize = build_net(name, 2, 64).normalize
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(-1, 3, -1, -1)
    assert torch.allclose(normalize(images), (images.float() - 127) / 128, atol=1e-6)


def test_another_size_is_cropped_from_one_that_is_resized_in_proportion(configure):
    data = ["data=image_folder", "model=swin_t", "data.root=x"]
    published = instantiate(configure(*data).data.preprocessing)
    assert published == Preprocessing(232, 224, "bicubic")
    assert published.scaled(448) == Preprocessing(464, 448, "bicubic")
    assert published.scaled(224) is published


def test_the_demo_and_the_tutorial_stay_bilinear_whatever_the_weights_were_published_with():
    assert demo_preprocessing("swin_t") == demo_preprocessing("efficientnet_b0") == Preprocessing(73, 64, "bilinear")
    assert tutorial_preprocessing("swin_t") == TUTORIAL == Preprocessing(256, 224, "bilinear")
    assert tutorial_preprocessing("inception_v3") == Preprocessing(342, 299, "bilinear")


def test_a_net_of_ones_own_gets_the_tutorials(configure):
    own = ["model._target_=nets.tiny_net", "model.name=mine"]
    assert instantiate(configure("data=image_folder", *own).data.preprocessing) == TUTORIAL
    assert instantiate(configure("data=demo", *own).data.preprocessing) == TUTORIAL.scaled(64)


def test_training_and_validation_see_images_through_the_same_interpolation(image_folder):
    root = image_folder(size=90)
    data = image_folders(root, 24, train_size=32, preprocessing=Preprocessing(232, 224, "bicubic"))
    assert data.preprocessing == Preprocessing(25, 24, "bicubic", FULL)
    assert data.train.transform == TrainTransform(32, (0.08, 1.0), 15, "bicubic")
    with Image.open(data.val.paths[0]) as photograph:
        large = data.preprocessing.resize * 2, round(99 / 90 * data.preprocessing.resize * 2)
        expected = EvalTransform(data.preprocessing)(photograph.resize(large[::-1], Image.Resampling.BILINEAR))
    assert data.val[0][0].equal(expected), "it is read at twice the size first, and that bilinearly"
    assert not data.val[0][0].equal(image_folders(root, 24).val[0][0])


def test_a_training_crop_is_resized_with_the_interpolation_that_it_is_given(image):
    for interpolation in ("bilinear", "bicubic"):
        torch.manual_seed(0)
        crop = TrainTransform(64, (0.1, 1.0), 0, interpolation)(image)
        torch.manual_seed(0)
        expected = v2.RandomResizedCrop(64, (0.1, 1.0), interpolation=v2.InterpolationMode(interpolation))(image)
        assert crop.pixels.equal(v2.functional.pil_to_tensor(expected))
