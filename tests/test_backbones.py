import pytest
import torch
import torchvision
from nets import tiny_net

from thaw.errors import UserError
from thaw.models.backbones import NAMES, build_net
from thaw.models.staged import IMAGENET_MEAN, IMAGENET_STD


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_a_staged_net_gives_bit_for_bit_the_logits_of_torchvisions(name):
    torch.manual_seed(0)
    reference = torchvision.models.get_model(name, num_classes=5).eval()
    net = build_net(name, num_classes=5).eval()
    net.load_state_dict(reference.state_dict(), strict=True)
    images = torch.randint(0, 256, (2, 3, 40, 40), dtype=torch.uint8)
    with torch.inference_mode():
        normalized = net.normalize(images)
        assert net(images).equal(reference(normalized))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    assert torch.allclose(normalized, (images / 255 - mean) / std, atol=1e-6)


def test_stages_are_named_as_in_torchvision_and_the_head_is_the_last():
    net = build_net("resnet18", 3)
    assert net.learned_stages == ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"]
    assert net.head_name == "fc"
    assert net.fc.out_features == 3
    assert net.is_head("fc.weight")
    assert not net.is_head("layer4.0.bn1.weight")


def test_an_unknown_model_is_refused_with_the_choices():
    with pytest.raises(UserError, match=f"resnet35.*{NAMES[0]}"):
        build_net("resnet35", 2)


def test_the_normalisation_adds_no_key_to_the_state_dict():
    assert not [key for key in tiny_net(2).state_dict() if key.startswith("normalize")]
