"""The map of a class lies where the class is to be seen."""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import ImageDraw
from torch import nn

from thaw.data.preprocessing import Preprocessing
from thaw.demo.drawings import SIZE, draw_animal
from thaw.inference.gradcam import gradcam, overlaid
from thaw.inference.trained_model import TrainedModel
from thaw.models.backbones import build_net, family_of
from thaw.models.families.timm import Timm
from thaw.models.staged import Normalize, StagedNet

MARK = 16  # pixels


def model_of(net, size):
    return TrainedModel(net.eval(), ["plain", "marked"], Preprocessing(size, size), 1.0, torch.device("cpu"), Path())


def drawn(number, marked):
    """A cat, uint8 (3, SIZE, SIZE), and the corner of the mark that it bears, or does not."""
    image, random = draw_animal("cat", number), np.random.default_rng(number)
    left, top = random.integers(0, SIZE - MARK, 2).tolist()
    if marked:
        draw = ImageDraw.Draw(image)
        for stripe in range(0, MARK, 4):
            colour = "magenta" if stripe % 8 else "lime"
            draw.rectangle((left, top + stripe, left + MARK - 1, top + stripe + 3), fill=colour)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1), (left, top)


@pytest.fixture(scope="module")
def seeing():
    """A net that has learned to tell drawings with a mark from those without."""
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(3, 12, 3, 2, 1), nn.ReLU(), nn.Conv2d(12, 24, 3, 2, 1), nn.ReLU(), nn.Conv2d(24, 24, 3)]
    modules = OrderedDict(normalize=Normalize(), features=nn.Sequential(*convolutions, nn.ReLU()))
    modules |= OrderedDict(avgpool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(24, 2))
    stages = {"features": ["normalize", "features", "avgpool", "flatten"], "fc": ["fc"]}
    net = StagedNet(modules, stages, {"name": "seeing", "num_classes": 2})
    images = torch.stack([drawn(number, number % 2)[0] for number in range(64)])
    labels = torch.arange(64) % 2
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
    return model_of(net, SIZE)


@pytest.mark.slow
def test_of_drawings_that_differ_in_one_region_the_maps_mass_falls_inside_it(seeing):
    held_out = [drawn(1000 + number, marked=True) for number in range(40)]
    images = torch.stack([image for image, _ in held_out])
    plain = torch.stack([drawn(1000 + number, marked=False)[0] for number in range(40)])
    assert (seeing.logits(images).argmax(1) == 1).float().mean() > 0.9
    assert (seeing.logits(plain).argmax(1) == 0).float().mean() > 0.9
    maps = gradcam(seeing, images, torch.ones(40, dtype=torch.int64))
    noise = torch.rand(40, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    found, by_chance = (
        np.mean([share(one, corner) for one, (_, corner) in zip(which, held_out, strict=True)])
        for which in (maps, noise)
    )
    print(f"{found:.0%} of the mass lies inside the mark, {by_chance:.0%} of a random map's")
    assert by_chance == pytest.approx((MARK / SIZE) ** 2, abs=0.01)
    assert found > 0.4
    assert found > 10 * by_chance


def share(heat, corner):
    left, top = corner
    return float(heat[top : top + MARK, left : left + MARK].sum() / heat.sum())


def test_before_a_mean_it_is_the_heads_weights_times_what_they_weigh(seeing):
    image, _ = drawn(2000, marked=True)
    with torch.no_grad():
        features = seeing.net.features(seeing.net.normalize(image[None].float()))
        expected = torch.einsum("c,nchw->nhw", seeing.net.fc.weight[1], features).relu()
    expected = F.interpolate(expected[:, None], size=(SIZE, SIZE), mode="bilinear")[:, 0]
    assert torch.allclose(gradcam(seeing, image[None], torch.tensor([1])), expected / expected.max(), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        pytest.param("alexnet", 64, marks=pytest.mark.slow),
        pytest.param("vgg11", 32, marks=pytest.mark.slow),
        ("resnet18", 64),
        pytest.param("caffe_resnet50", 64, marks=pytest.mark.slow),
        ("mobilenet_v3_small", 64),
        ("squeezenet1_1", 64),
        pytest.param("densenet121", 64, marks=pytest.mark.slow),
        pytest.param("swin_t", 64, marks=pytest.mark.slow),
        pytest.param("vit_b_32", 96, marks=pytest.mark.slow),
        ("timm/vit_tiny_patch16_224", 224),
        ("timm/resnet18", 64),
        pytest.param("efficientnet_lite0", 64, marks=pytest.mark.slow),
    ],
)
def test_every_kind_of_net_has_a_map_within_0_and_1_that_reaches_1(name, size):
    if isinstance(family_of(name), Timm):
        pytest.importorskip("timm")
    torch.manual_seed(0)
    net = build_net(name, 2, size)
    for key, parameter in net.named_parameters():
        if net.is_head(key):
            nn.init.normal_(parameter, std=0.1)  # some are zero at first, through which nothing is seen
    images = torch.randint(0, 256, (4, 3, size, size), dtype=torch.uint8)
    model = model_of(net, size)
    maps = torch.cat([gradcam(model, images, torch.full((4,), label)) for label in (0, 1)])
    assert maps.shape == (8, size, size)
    assert maps.min() >= 0
    assert maps.max() == 1
    assert set(maps.amax((1, 2)).tolist()) <= {0.0, 1.0}, "0 where nothing speaks for the class"
    alone = torch.cat([gradcam(model, image[None], torch.tensor([0])) for image in images])
    assert torch.allclose(alone, maps[:4], atol=1e-3), "no image has a part in another's map"


def test_an_overlay_is_the_image_where_the_map_is_zero():
    image, heat = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8), torch.zeros(8, 8)
    heat[:4] = 1
    pixels = np.asarray(overlaid(image, heat))
    assert (pixels[4:] == image.permute(1, 2, 0).numpy()[4:]).all()
    assert (pixels[:4] != image.permute(1, 2, 0).numpy()[:4]).any()
