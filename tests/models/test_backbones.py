import pytest
import torch
import torchvision
from nets import tiny_net
from steps import changed_by_a_step

from thaw.errors import UserError
from thaw.models.backbones import build_net, family_of
from thaw.models.families.torchvision import Torchvision
from thaw.models.sizes import demo_size
from thaw.models.staged import IMAGENET_MEAN, IMAGENET_STD
from thaw.models.weights import load_backbone, load_weights

INCEPTIONS = ("googlenet", "inception_v3")
FAMILIES = [
    "alexnet", "googlenet", "inception_v3", "resnet18", "resnet50", "densenet121", "mobilenet_v2",
    "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "regnet_y_400mf", "squeezenet1_1", "shufflenet_v2_x0_5",
    "mnasnet0_5", "swin_t",
]  # fmt: skip
RELATIVES = [
    "vgg11", "vgg13_bn", "resnet34", "resnet152", "resnext50_32x4d", "wide_resnet50_2", "densenet201",
    "mobilenet_v3_large", "efficientnet_v2_s", "swin_v2_t", "vit_b_16", "maxvit_t",
]  # fmt: skip


def reference_net(name, num_classes=5, image_size=None):
    """torchvision's own net in its published form: with the auxiliary heads, if it has some."""
    torch.manual_seed(0)
    options = {"aux_logits": True, "transform_input": True, "init_weights": False} if name in INCEPTIONS else {}
    if name.startswith("vit"):
        options["image_size"] = image_size or 224
    net = torchvision.models.get_model(name, num_classes=num_classes, **options).eval()
    if name.startswith("vit"):
        for blank in (net.class_token, net.heads.head.weight):  # zeros, behind which every difference would vanish
            torch.nn.init.normal_(blank, std=0.1)
    return net


@pytest.fixture(scope="module", params=[*FAMILIES, *(pytest.param(name, marks=pytest.mark.slow) for name in RELATIVES)])
def family(request):
    """A family's name, torchvision's net, ours and images that are small for both."""
    side = family_of(request.param).smallest_image(request.param, 40)
    images = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)
    return request.param, reference_net(request.param, image_size=side), build_net(request.param, 5, side), images


def test_a_staged_net_gives_bit_for_bit_the_logits_of_torchvisions(family):
    _, reference, net, images = family
    published = {key: value for key, value in reference.state_dict().items() if "aux" not in key.lower()}
    net.eval().load_state_dict(published, strict=True)
    with torch.inference_mode():
        normalized = net.normalize(images)
        logits = net(images)
        assert logits.equal(reference(normalized.clone()))
    assert not logits[0].equal(logits[1])
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    assert torch.allclose(normalized, (images / 255 - mean) / std, atol=1e-6)


def test_a_training_step_of_the_feature_extractor_changes_the_whole_head_and_nothing_else(family):
    _, _, net, images = family
    assert changed_by_a_step(net, images) == {key for key in net.state_dict() if net.is_head(key)}


_LARGE = ("alexnet", "inception_v3", "densenet121")


@pytest.mark.parametrize(
    "name",
    ["googlenet", "squeezenet1_1", "mnasnet0_5", *(pytest.param(name, marks=pytest.mark.slow) for name in _LARGE)],
)
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
    """DenseNet's published keys still have a dot in the names of the layers, ViT's have names in the MLP."""
    key = key.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2.") if "encoder_layer" in key else key
    return key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.") if "denselayer" in key else key


@pytest.mark.slow
def test_published_weights_of_a_vit_are_interpolated_to_other_sizes():
    published = reference_net("vit_b_32", num_classes=1000, image_size=96).state_dict()
    net = build_net("vit_b_32", num_classes=5, image_size=64)
    load_backbone(net, {older(key): value for key, value in published.items()}, source="a file")
    expected = torchvision.models.vision_transformer.interpolate_embeddings(64, 32, dict(published))
    assert expected["encoder.pos_embedding"].shape[1] == 1 + 2 * 2
    for key, value in net.state_dict().items():
        assert net.is_head(key) or value.equal(expected[key]), key


def test_every_model_of_torchvisions_can_be_named():
    assert set(torchvision.models.list_models(torchvision.models)) <= set(Torchvision().names())


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("resnet18", ["conv1", "layer1", "layer2", "layer3", "layer4", "fc"]),
        ("alexnet", ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]),
        ("vgg13_bn", ["block1", "block2", "block3", "block4", "block5", "fc6", "fc7", "fc8"]),
        ("regnet_y_400mf", ["stem", "block1", "block2", "block3", "block4", "fc"]),
        ("vit_b_32", ["conv_proj", *(f"encoder_layer_{n}" for n in range(12)), "head"]),
        ("maxvit_t", ["stem", *(f"blocks.{n}" for n in range(4)), "classifier.3", "classifier.5"]),
        ("mobilenet_v3_small", [*(f"features.{n}" for n in range(13)), "classifier.0", "classifier.3"]),
    ],
)
def test_stages_have_the_names_of_the_literature(name, stages):
    with torch.device("cpu" if name.startswith("regnet") else "meta"):  # which cannot be built without numbers
        net = build_net(name, 3)
    assert net.learned_stages == stages
    assert net.head_name == stages[-1]


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mobilenet_v3_small"])
def test_stages_hold_every_parameter_once_and_are_the_net(name):
    net = build_net(name, 3, image_size=64).eval()
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


@pytest.mark.parametrize(
    ("name", "size", "reason"),
    [
        ("vit_b_16", 200, "data.image_size=200 does not fit vit_b_16, .* multiple of 16 pixels, such as 192 or 208"),
        ("vit_h_14", 512, "multiple of 14 pixels, such as 504 or 518"),
        ("maxvit_t", 300, "multiple of 224 pixels, such as 224 or 448"),
    ],
)
def test_images_that_patches_or_windows_do_not_divide_are_refused_with_the_nearest_sizes(name, size, reason):
    with pytest.raises(UserError, match=reason):
        build_net(name, 2, image_size=size)
    assert demo_size("vit_h_14") == 70


def test_a_net_of_one_size_takes_no_other_training_crop():
    with torch.device("meta"):
        vit, resnet = build_net("vit_b_32", 2, image_size=64), build_net("resnet18", 2, image_size=64)
        assert build_net(**vit.config).state_dict()["encoder.pos_embedding"].shape == (1, 1 + 2 * 2, 768)
    vit.check_sizes(64, 64)
    resnet.check_sizes(64, 96)
    with pytest.raises(UserError, match=r"data.train_size=96 must equal data.image_size=64 for vit_b_32"):
        vit.check_sizes(64, 96)


def test_the_normalisation_adds_no_key_to_the_state_dict():
    assert not [key for key in tiny_net(2).state_dict() if key.startswith("normalize")]
