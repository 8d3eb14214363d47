import pytest
import torch
from nets import tiny_net

from thaw.models.backbones import build_net
from thaw.strategy.selection import SelectionError, selected

HEAD = {"fc.weight", "fc.bias"}


@pytest.fixture(scope="module")
def resnet():
    with torch.device("meta"):
        return build_net("resnet34", 2)


def stages(net, names):
    return [stage for stage in net.learned_stages if set(net.stage_parameters(stage)) & names]


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        ("head", ["fc"]),
        ("first", ["conv1", "fc"]),
        ("last", ["layer4", "fc"]),
        ("0-25%", ["conv1", "layer1", "fc"]),
        ("25-75%", ["layer2", "layer3", "fc"]),
        ("75-100%", ["layer4", "fc"]),
        (["layer1", "layer3"], ["layer1", "layer3", "fc"]),
        ("all", ["conv1", "layer1", "layer2", "layer3", "layer4", "fc"]),
    ],
)
def test_entries_choose_the_stages_of_a_resnet_that_they_say(resnet, train, expected):
    names = selected(train, resnet)
    assert stages(resnet, names) == expected
    assert names == {name for stage in expected for name in resnet.stage_parameters(stage)}


def test_a_part_of_a_stage_is_named_by_its_path(resnet):
    names = selected(["layer4.0", "layer3.5.bn2.bias"], resnet) - HEAD
    assert names == {name for name, _ in resnet.named_parameters() if name.startswith("layer4.0.")} | {
        "layer3.5.bn2.bias"
    }


def test_a_pattern_chooses_parameters_by_name(resnet):
    assert selected(["*.bn?.bias"], resnet) - HEAD == {
        name for name, _ in resnet.named_parameters() if ".bn" in name and name.endswith("bias")
    }


@pytest.mark.parametrize(
    ("name", "count"),
    [("resnet34", 72), ("vgg11_bn", 16), ("convnext_tiny", 46), ("swin_t", 58), ("mobilenet_v2", 104)],
)
def test_norm_means_every_normalisation_layer_whatever_its_name(name, count):
    with torch.device("meta"):
        net = build_net(name, 2)
    names = selected("norm", net) - set(net.stage_parameters(net.head_name))
    assert len(names) == count
    assert all(net.get_parameter(key).ndim == 1 for key in names)


def test_a_net_without_normalisation_refuses_norm():
    with torch.device("meta"), pytest.raises(SelectionError, match="'norm', which alexnet does not have"):
        selected("norm", build_net("alexnet", 2))


@pytest.mark.parametrize(
    "name",
    ["alexnet", "vgg16", "googlenet", "densenet121", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny",
     "regnet_y_400mf", "squeezenet1_1", "shufflenet_v2_x0_5", "mnasnet0_5", "swin_t", "resnet18"],
)  # fmt: skip
def test_the_quarters_of_every_backbone_hold_something_and_together_are_all_of_it(name):
    with torch.device("cpu" if name.startswith("regnet") else "meta"):  # which cannot be built without numbers
        net = build_net(name, 2)
    quarters = [selected(share, net) for share in ("0-25%", "25-50%", "50-75%", "75-100%")]
    assert all(len(names) > len(net.stage_parameters(net.head_name)) for names in quarters)
    assert set().union(*quarters) == {key for key, _ in net.named_parameters()}


def test_the_choices_name_what_this_net_has():
    with pytest.raises(SelectionError, match=r"the stages conv1, layer1, fc, a module such as layer1\.0"):
        selected("layer7", tiny_net(2))
