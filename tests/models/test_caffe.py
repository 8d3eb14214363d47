import re

import pytest
import torch
import torch.nn.functional as F
from steps import changed_by_a_step

from thaw.errors import UserError
from thaw.models.backbones import build_net
from thaw.models.families.caffe import torchvision_names
from thaw.models.weights import load_backbone, load_weights

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


@pytest.fixture(scope="module")
def published():
    """The tensors of a ResNet-50 for 1000 classes, with statistics as if it had learned."""
    torch.manual_seed(0)
    tensors = build_net("caffe_resnet50", 1000).state_dict()
    for key, value in tensors.items():
        if key.endswith(("running_mean", "bias")):
            value.normal_(std=0.1)
        elif key.endswith("running_var") or (value.ndim == 1 and key.endswith("weight")):
            value.uniform_(0.5, 1.5)
    return tensors


def caffe_logits(tensors, images):
    """The original ResNet-50 written out: a bottleneck's stride is in its first convolution, pooling rounds up."""

    def unit(x, conv, norm, **options):
        x = F.conv2d(x, tensors[f"{conv}.weight"], **options)
        statistics = [tensors[f"{norm}.{kind}"] for kind in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *statistics)

    x = images[:, [2, 1, 0]].float() - torch.tensor([103.939, 116.779, 123.68]).view(3, 1, 1)
    x = unit(x, "conv1", "bn1", stride=2, padding=3).relu()
    missing = [(side - 3) % 2 for side in (x.shape[3], x.shape[2])]
    x = F.max_pool2d(F.pad(x, (0, missing[0], 0, missing[1]), value=-torch.inf), 3, stride=2)
    for layer, count in enumerate(BLOCKS[50], 1):
        for block in range(count):
            at, stride = f"layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
            shortcut = unit(x, f"{at}.downsample.0", f"{at}.downsample.1", stride=stride) if block == 0 else x
            x = unit(x, f"{at}.conv1", f"{at}.bn1", stride=stride).relu()
            x = unit(x, f"{at}.conv2", f"{at}.bn2", padding=1).relu()
            x = (unit(x, f"{at}.conv3", f"{at}.bn3") + shortcut).relu()
    return F.linear(x.mean([2, 3]), tensors["fc.weight"], tensors["fc.bias"])


@pytest.mark.parametrize("size", [(64, 64), (65, 71), (58, 97), (3, 3)])
def test_a_caffe_resnet_gives_the_logits_of_the_original(published, size):
    net = build_net("caffe_resnet50", 1000).eval()
    net.load_state_dict(published, strict=True)
    images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.allclose(net(images), caffe_logits(published, images), rtol=1e-4, atol=1e-4)


def caffe_name(key, depth):
    """A torchvision name as Caffe's own files have it."""
    path, _, kind = key.rpartition(".")
    affine = "scale" if kind in ("weight", "bias") else "bn"
    outer = {"conv1": "conv1", "bn1": f"{affine}_conv1", "fc": "fc1000"}
    if path in outer:
        return f"{outer[path]}.{kind}"
    layer, block, module = re.fullmatch(r"layer(\d)\.(\d+)\.(.+)", path).groups()
    numbered = BLOCKS[depth][int(layer) - 1] > 6 or (depth == 101 and layer == "2")
    title = "a" if block == "0" else f"b{block}" if numbered else "abcdef"[int(block)]
    branch = "1" if module.startswith("downsample") else "2" + "abc"[int(module[-1]) - 1]
    norm = module.startswith("bn") or module == "downsample.1"
    return f"{affine if norm else 'res'}{int(layer) + 1}{title}_branch{branch}.{kind}"


def detectron_name(key, depth):
    key = re.sub(r"bn(\d)\.", r"conv\1.norm.", key).replace("downsample.0", "shortcut")
    key = key.replace("downsample.1", "shortcut.norm").replace("fc.", "linear.")
    return (
        re.sub(r"layer(\d)", lambda m: f"res{int(m[1]) + 1}", key)
        if "layer" in key
        else re.sub("^conv", "stem.conv", key)
    )


def test_names_are_those_of_the_files_that_are_around():
    assert caffe_name("conv1.weight", 50) == "conv1.weight"
    assert caffe_name("bn1.weight", 50) == "scale_conv1.weight"
    assert caffe_name("layer1.0.downsample.1.running_var", 50) == "bn2a_branch1.running_var"
    assert caffe_name("layer3.5.conv2.weight", 50) == "res4f_branch2b.weight"
    assert caffe_name("layer2.3.bn3.bias", 101) == "scale3b3_branch2c.bias"
    assert caffe_name("layer2.7.conv1.weight", 152) == "res3b7_branch2a.weight"
    assert caffe_name("layer3.35.conv1.weight", 152) == "res4b35_branch2a.weight"
    assert detectron_name("bn1.weight", 50) == "stem.conv1.norm.weight"
    assert detectron_name("layer1.0.downsample.1.bias", 50) == "res2.0.shortcut.norm.bias"


@pytest.mark.parametrize("depth", [50, 101, 152])
@pytest.mark.parametrize("rename", [caffe_name, detectron_name, lambda key, depth: key])
def test_every_name_of_every_scheme_means_the_right_tensor(rename, depth):
    with torch.device("meta"):
        keys = [key for key in build_net(f"caffe_resnet{depth}", 2).state_dict() if "tracked" not in key]
    assert torchvision_names({rename(key, depth): key for key in keys}) == {key: key for key in keys}


@pytest.mark.parametrize("rename", [caffe_name, detectron_name])
def test_converted_files_fill_all_but_the_head(published, rename, tmp_path):
    kept = {key: value for key, value in published.items() if "tracked" not in key}
    torch.save({rename(key, 50): value for key, value in kept.items()}, tmp_path / "w.pth")
    net = build_net("caffe_resnet50", 2)
    load_weights(net, str(tmp_path / "w.pth"))
    assert all(net.state_dict()[key].equal(value) for key, value in kept.items() if not net.is_head(key))


def test_a_bias_of_the_first_convolution_is_kept_in_the_normalisation(published):
    bias = torch.randn(64)
    images = torch.randint(0, 256, (1, 3, 40, 40), dtype=torch.uint8)
    net = build_net("caffe_resnet50", 2).eval()
    load_backbone(net, published | {"conv1.bias": bias}, "a file")
    with torch.inference_mode():
        x = F.conv2d(net.normalize(images), published["conv1.weight"], bias, stride=2, padding=3)
        statistics = [published[f"bn1.{kind}"] for kind in ("running_mean", "running_var", "weight", "bias")]
        assert torch.allclose(net.bn1(net.conv1(net.normalize(images))), F.batch_norm(x, *statistics), atol=1e-4)


def test_two_tensors_for_one_place_are_refused(published):
    net = build_net("caffe_resnet50", 2)
    twice = published | {"scale_conv1.weight": torch.ones(64)}
    with pytest.raises(UserError, match=r"'scale_conv1.weight' that the network lacks"):
        load_backbone(net, twice, "a file")


def test_a_training_step_of_the_feature_extractor_changes_the_whole_head_and_nothing_else():
    net = build_net("caffe_resnet50", 5)
    changed = changed_by_a_step(net, torch.randint(0, 256, (2, 3, 40, 40), dtype=torch.uint8))
    assert changed == {"fc.weight", "fc.bias"}


def test_imagenet_weights_are_refused_with_the_ways_on():
    with pytest.raises(
        UserError, match=r"no weights for caffe_resnet101; choose weights=demo, weights=none, or weights=PATH of"
    ):
        load_weights(build_net("caffe_resnet101", 2), "imagenet")
