"""The number format follows what learns, not the clock."""

import pytest
import torch
from hydra.utils import instantiate

from thaw.models.backbones import build_net
from thaw.training import hardware
from thaw.training.precision import bf16_suits

# Images a second of training, float32 and bfloat16, batches of 16 at 224 px, 2 cores of an EPYC with AVX512-BF16.
MEASURED = {
    "mobilenet_v3_small": (212, 115),
    "mobilenet_v2": (37, 56),
    "resnet18": (36, 66),
    "convnext_tiny": (6.5, 15.6),
    "tf_efficientnet_lite0": (32, 29),
}


@pytest.mark.parametrize("name", MEASURED)
def test_the_rule_chooses_the_format_that_was_faster(name, configure):
    timms = name.startswith("tf_")
    if timms:
        pytest.importorskip("timm")
    net = build_net(f"timm/{name}" if timms else name, 2)
    phases = instantiate(configure("strategy=fine_tune").strategy).schedule(net, 10)
    single, brain = MEASURED[name]
    assert bf16_suits(net, phases, 64) is (brain > single)


def test_what_is_frozen_does_not_count(configure):
    net = build_net("mobilenet_v3_small", 2)
    before = [module.training for module in net.modules()]
    phases = instantiate(configure("strategy=feature_extractor").strategy).schedule(net, 10)
    assert bf16_suits(net, phases, 64)
    assert [module.training for module in net.modules()] == before


def test_what_is_solved_rests_on_float32(configure):
    net = build_net("resnet18", 2)
    assert not bf16_suits(net, instantiate(configure("strategy=probe").strategy).schedule(net, 10), 64)
    assert bf16_suits(net, instantiate(configure("strategy=lp_ft").strategy).schedule(net, 10), 64)


def test_a_cpu_takes_float32_where_bfloat16_is_slower(monkeypatch):
    monkeypatch.setattr(hardware, "cpu_has_bf16", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [hardware.best_precision("cpu", quick) for quick in (True, False)] == ["bf16-mixed", "32-true"]
