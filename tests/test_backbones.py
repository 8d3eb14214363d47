import pytest
import torch
import torchvision
from nets import tiny_net

from thaw.errors import UserError
from thaw.models.backbones import build_net, names, smallest_image
from thaw.models.staged import IMAGENET_MEAN, IMAGENET_STD
from thaw.models.weights import load_weights

INCEPTIONS = ("googlenet", "inception_v3")
FAMILIES = [
    "alexnet", "vgg11", "vgg13_bn", "googlenet", "inception_v3", "resnet18", "resnet34", "resnet50", "resnext50_32x4d",
    "wide_resnet50_2", "densenet121", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "efficientnet_v2_s",
    "convnext_tiny", "regnet_y_400mf", "squeezenet1_1", "shufflenet_v2_x0_5", "mnasnet0_5", "swin_t", "swin_v2_t",
]  # fmt: skip


def reference_net(name, num_classes=5):
    """torchvision's own net in its published form: with the auxiliary heads, if it has some."""
    torch.manual_seed(0)
    options = {"aux_logits": True, "transform_input": True, "init_weights": False} if name in INCEPTIONS else {}
    return torchvision.models.get_model(name, num_classes=num_classes, **options).eval()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_staged_net_gives_bit_for_bit_the_logits_of_torchvisions(name):
    reference = reference_net(name)
    published = {key: value for key, value in reference.state_dict().items() if "aux" not in key.lower()}
    net = build_net(name, num_classes=5).eval()
    net.load_state_dict(published, strict=True)
    side = max(smallest_image(name), 40)
    images = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)
    with torch.inference_mode():
        normalized = net.normalize(images)
        assert net(images).equal(reference(normalized.clone()))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    assert torch.allclose(normalized, (images / 255 - mean) / std, atol=1e-6)


@pytest.mark.parametrize("name", ["alexnet", "googlenet", "inception_v3", "densenet121", "squeezenet1_1", "mnasnet0_5"])
def test_published_weights_fill_everything_but_the_head(name, tmp_path):
    published = reference_net(name, num_classes=1000).state_dict()
    torch.save({older(key): value for key, value in published.items()}, tmp_path / "published.pth")
    net = build_net(name, num_classes=5)
    load_weights(net, str(tmp_path / "published.pth"))
    for key, value in net.state_dict().items():
        if not net.is_head(key):
            assert value.equal(published[key]), key
        else:
            assert value.shape != published[key].shape


def older(key):
    """DenseNet's published keys still have a dot in the names of the layers."""
    return key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.") if "denselayer" in key else key


def test_every_model_of_torchvisions_that_is_a_chain_can_be_named():
    listed = torchvision.models.list_models(torchvision.models)
    assert set(listed) - set(names()) == {name for name in listed if name.startswith(("vit_", "maxvit"))}


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("resnet18", ["conv1", "layer1", "layer2", "layer3", "layer4", "fc"]),
        ("alexnet", ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]),
        ("vgg13_bn", ["block1", "block2", "block3", "block4", "block5", "fc6", "fc7", "fc8"]),
        ("regnet_y_400mf", ["stem", "block1", "block2", "block3", "block4", "fc"]),
        ("mobilenet_v3_small", [*(f"features.{n}" for n in range(13)), "classifier.0", "classifier.3"]),
    ],
)
def test_stages_have_the_names_of_the_literature(name, stages):
    net = build_net(name, 3)
    assert net.learned_stages == stages
    assert net.head_name == stages[-1]


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mobilenet_v3_small"])
def test_stages_hold_every_parameter_once_and_are_the_net(name):
    net = build_net(name, 3).eval()
    in_stages = [name for stage in net.stages for name in net.stage_parameters(stage)]
    assert sorted(in_stages) == sorted(name for name, _ in net.named_parameters())
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        x = images
        for stage in net.stages:
            x = net.run_stage(stage, x)
        assert x.equal(net(images))


def test_dropout_belongs_to_the_stage_whose_input_it_disturbs():
    with torch.device("meta"):
        net = build_net("vgg11", 3)
    assert [type(module).__name__ for module in net.stage_modules("fc8")] == ["Dropout", "Linear"]
    assert not any(isinstance(module, torch.nn.Dropout) for module in net.stage_modules("block5"))


def test_an_unknown_model_is_refused_with_the_choices():
    with pytest.raises(UserError, match=r"resnet35.*resnet34"):
        build_net("resnet35", 2)


def test_images_that_are_too_small_are_refused():
    with pytest.raises(UserError, match=r"data.image_size=64 is too small for inception_v3, .* at least 75"):
        build_net("inception_v3", 2, image_size=64)


def test_the_normalisation_adds_no_key_to_the_state_dict():
    assert not [key for key in tiny_net(2).state_dict() if key.startswith("normalize")]
