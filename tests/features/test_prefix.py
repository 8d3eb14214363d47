"""The frozen beginning of a net, computed by itself."""

import contextlib
from functools import partial

import pytest
import torch
from nets import tiny_net, tiny_resnet
from torch import nn

from thaw.features.prefix import FrozenPrefix, frozen_cut
from thaw.models.backbones import build_net
from thaw.models.sizes import demo_size
from thaw.strategy.phases import Strategy
from thaw.training.classifier import ImageClassifier, Recipe

QUICK = ["alexnet", "resnet18", "mobilenet_v3_small", "squeezenet1_1"]
MORE = ["caffe_resnet50", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "maxvit_t"]
MORE += ["mnasnet0_5", "regnet_y_400mf", "shufflenet_v2_x0_5", "swin_t", "vgg11_bn", "vit_b_32", "wide_resnet50_2"]

CPU = torch.device("cpu")
BFLOAT16 = partial(torch.autocast, "cpu", torch.bfloat16)


def frozen_before(net, stage):
    """A classifier of which everything before `stage` is frozen, with statistics that are none of a new net's."""
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    for name in net.stage_parameters(net.head_name):
        nn.init.normal_(net.get_parameter(name), std=0.1)  # some begin as zeros
    classifier = ImageClassifier(net, ["a", "b"], Recipe(None, None))
    stages = list(net.stages)
    learning = [name for name in stages[stages.index(stage) :] if name in net.learned_stages]
    phase = Strategy("x", [{"train": learning}], lr=0.1).schedule(net, 1)[0]
    classifier.start(phase)
    assert frozen_cut(net, phase) == stage
    return net


def pictures(size, count=3):
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.manual_seed(0))


@pytest.mark.parametrize(
    ("name", "context"),
    [
        *((name, context) for name in QUICK for context in (contextlib.nullcontext, BFLOAT16)),
        *(pytest.param(name, contextlib.nullcontext, marks=pytest.mark.slow) for name in MORE),
    ],
)
def test_features_and_what_comes_after_them_are_the_net(name, context):
    size = demo_size(name)
    net = build_net(name, 2, size)
    middle = net.learned_stages[len(net.learned_stages) // 2]
    for cut in (middle, net.head_name):
        prefix = FrozenPrefix(frozen_before(net, cut), cut, CPU, context)
        with torch.no_grad(), context():
            expected = net.eval()(pictures(size)).float()
            features = prefix(pictures(size))
            logits = net(features, start=cut).float()
        error = (logits - expected).norm() / expected.norm()
        assert error < (1e-4 if context is contextlib.nullcontext else 0.1), (cut, error)
        example, operations = prefix.probe(size)
        assert (example.shape[1:], example.dtype) == (features.shape[1:], features.dtype)
        assert operations > 0


def test_a_net_whose_layers_lie_in_another_order_is_not_folded():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(8, 8, 1)
            self.norm = nn.BatchNorm2d(8)

        def forward(self, x):
            return self.conv(self.norm(x))

    net = tiny_net(2)
    net.layer1[2] = Odd()
    frozen_before(net, "fc")
    prefix = FrozenPrefix(net, "fc", CPU, contextlib.nullcontext)
    torch.testing.assert_close(net(prefix(pictures(20)), start="fc"), net(pictures(20)))


def test_timms_batch_norms_are_folded_but_for_the_activation_that_is_part_of_them():
    pytest.importorskip("timm", reason="timm is not installed: pip install -e '.[timm]'")
    net = frozen_before(build_net("efficientnet_lite0", 2, 64), "blocks.3")
    prefix = FrozenPrefix(net, "blocks.3", CPU, contextlib.nullcontext)
    features = prefix(pictures(64))
    with torch.no_grad():
        expected = net.eval()(pictures(64))
        assert (net(features, start="blocks.3") - expected).norm() < 1e-4 * expected.norm()
    assert isinstance(prefix._quick.model.blocks[0][0].bn1, nn.Sequential)


def test_the_net_itself_is_left_as_it_is():
    net = frozen_before(tiny_resnet(2), "layer3")
    before, modes = net.state_dict(), [module.training for module in net.modules()]
    copies = {name: tensor.clone() for name, tensor in before.items()}
    FrozenPrefix(net, "layer3", CPU, BFLOAT16)(pictures(20))
    assert [module.training for module in net.modules()] == modes
    assert all(tensor.dtype == copies[name].dtype and tensor.equal(copies[name]) for name, tensor in before.items())


def test_the_digest_is_of_what_features_depend_on_and_of_nothing_else():
    def digest(change=None, cut="layer3", context=contextlib.nullcontext):
        torch.manual_seed(1)
        net = frozen_before(tiny_resnet(2), cut)
        if change:
            with torch.no_grad():
                change(net)
        return FrozenPrefix(net, cut, CPU, context).digest

    one = digest()
    assert digest() == one
    assert digest(lambda net: net.layer3.conv1.weight.add_(1)) == one, "what learns does not matter"
    assert digest(lambda net: net.fc.weight.add_(1)) == one
    others = [
        digest(lambda net: net.layer2.conv2.bias[0].add_(1e-3)),
        digest(lambda net: net.bn1.running_var.add_(1e-3)),
        digest(lambda net: net.normalize.shift.add_(1e-3)),
        digest(lambda net: setattr(net.bn1, "eps", 1e-3)),
        digest(cut="layer4"),
        digest(context=BFLOAT16),
    ]
    assert len({one, *others}) == 7


def test_nothing_is_cut_where_the_first_weights_learn():
    net = tiny_resnet(2)
    phase = Strategy("x", [{"train": ["conv1"]}], lr=0.1).schedule(net, 1)[0]
    assert frozen_cut(net, phase) is None
