from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch.optim import SGD
from torch.optim.lr_scheduler import StepLR

from thaw.data.preprocessing import Preprocessing
from thaw.models.backbones import build_net, family_of
from thaw.models.families.timm import Timm
from thaw.models.head import linear_head


def options(group):
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))


@pytest.mark.parametrize("name", options("strategy"))
def test_every_strategy_fits_the_default_model(configure, name):
    strategy = instantiate(configure(f"strategy={name}").strategy)
    assert strategy.name == name
    with torch.device("meta"):
        phases = strategy.schedule(build_net("resnet34", 2), 10)
    assert phases[-1].last == (1 if name == "probe" else 10)
    assert all(phase.groups[-1].stage == "fc" for phase in phases)


@pytest.mark.parametrize("group", ["strategy", "data"])
def test_all_options_of_a_swept_group_take_the_same_overrides(configure, group):
    """Hydra checks a sweep's other overrides against the default option alone."""
    keys = [set(configure(f"{group}={name}")[group]) for name in options(group)]
    assert all(k == keys[0] for k in keys)


QUICK = ("alexnet", "caffe_resnet50", "efficientnet_lite0", "resnet34", "squeezenet1_1", "vgg11")  # of each kind, small


@pytest.mark.parametrize(
    "name", [pytest.param(m, marks=[pytest.mark.slow] * (m not in QUICK)) for m in options("model")]
)
def test_every_model_is_built(configure, name):
    named = {"torchvision": "mnasnet0_5", "timm": "resnet10t"}.get(name)
    if name == "timm" or isinstance(family_of(name, own=True), Timm):
        pytest.importorskip("timm", reason="timm is not installed")
    with torch.device("meta"):  # shapes without numbers, which take seconds to draw
        net = instantiate(configure(f"model={name}", *[f"model.name={named}"] * bool(named)).model, num_classes=3)
    size = {"image_size": 224} if name == "vit_b_16" else {}
    assert net.config == {"name": {"timm": "timm/resnet10t"}.get(name, named or name), "num_classes": 3, **size}


def test_a_model_has_the_same_values_as_in_runs_of_before_its_target_had_a_default(configure):
    assert configure("model=vgg11").model == {"_target_": "thaw.models.backbones.build_net", "name": "vgg11"}


@pytest.fixture
def sizes(configure):
    """Of photographs and of the demo's drawings."""

    def chosen(*overrides):
        cfgs = [configure(f"data={name}", *overrides) for name in ("image_folder", "demo")]
        return tuple(cfg.data.image_size or instantiate(cfg.data.preprocessing).crop for cfg in cfgs)

    return chosen


@pytest.mark.parametrize(
    ("name", "photographs", "drawings"),
    [
        ("resnet34", 224, 64),
        ("efficientnet_b3", 300, 64),
        ("swin_v2_t", 256, 64),
        ("vit_h_14", 518, 70),
        ("maxvit_t", 224, 224),
        ("caffe_resnet50", 224, 64),
    ],
)
def test_images_have_the_size_that_the_net_expects(sizes, name, photographs, drawings):
    assert sizes("model=torchvision", f"model.name={name}") == (photographs, drawings)


def test_inception_sees_images_of_the_size_it_was_learned_on(sizes):
    assert sizes("model=inception_v3") == (299, 75)
    assert sizes("model=inception_v3", "data.image_size=96") == (96, 96)


@pytest.mark.parametrize("name", options("trainer"))
def test_every_trainer_composes(configure, name):
    assert configure(f"trainer={name}").trainer._target_ == "thaw.training.trainer.build_trainer"


def test_the_demo_takes_demo_weights_and_photographs_take_imagenets(configure):
    chosen = {name: configure(f"data={name}").weights for name in options("data")}
    known = {"image_folder": "imagenet", "table": "imagenet", "cats_dogs": "imagenet"}
    assert chosen == {"demo": "demo", "scenes": "demo", **known}
    assert configure("data=image_folder", "weights=none").weights == "none"


def test_strategies_choose_the_stages_that_their_names_say(configure):
    with torch.device("meta"):
        net = build_net("resnet34", 2)

    def stages(name):
        phases = instantiate(configure(f"strategy={name}").strategy).schedule(net, 10)
        return [tuple(group.stage for group in phase.groups) for phase in phases]

    every = ("conv1", "layer1", "layer2", "layer3", "layer4", "fc")
    assert stages("feature_extractor") == [("fc",)]
    assert stages("layer3_layer4") == [("layer3", "layer4", "fc")]
    assert stages("fine_tune") == stages("from_scratch") == stages("batch_norm") == stages("bias") == [every]
    assert stages("lp_ft") == [("fc",), every]
    assert stages("gradual") == [every[5:], every[4:], every[3:], every[2:], every]
    assert stages("surgical_first") == [("conv1", "layer1", "fc")]
    assert stages("surgical_middle") == [("layer2", "layer3", "fc")]
    assert stages("surgical_last") == [("layer4", "fc")]


def test_from_scratch_takes_no_weights_whatever_the_data_say(configure):
    pretrained = {name: instantiate(configure(f"strategy={name}").strategy).pretrained for name in options("strategy")}
    assert [name for name, used in pretrained.items() if not used] == ["from_scratch"]


def test_the_article_is_the_tutorials_recipe(configure):
    cfg = configure("experiment=article", "strategy=fine_tune")
    data, trainer = cfg.data, cfg.trainer
    assert (data.root, cfg.weights) == ("data/cats_dogs", "imagenet")
    assert (data.batch_size, data.train_size, data.image_size, data.rotation) == (4, 256, None, 15)
    for name in ("resnet34", "efficientnet_b0", "swin_t"):  # the last two were published with others
        preprocessing = instantiate(configure("experiment=article", f"model={name}").data.preprocessing)
        assert preprocessing == Preprocessing(resize=256, crop=224, interpolation="bilinear")
    assert list(data.crop_scale) == [0.08, 1.0]
    assert (trainer.max_epochs, trainer.precision) == (25, "32-true")
    with torch.device("meta"):
        (phase,) = instantiate(cfg.strategy).schedule(build_net("resnet34", 2), 25)
    assert {group.lr for group in phase.groups} == {0.001}
    optimizer, scheduler = instantiate(cfg.optimizer), instantiate(cfg.scheduler)
    assert isinstance(optimizer, partial)
    assert (optimizer.func, optimizer.keywords) == (SGD, {"momentum": 0.9, "weight_decay": 0, "fused": True})
    assert (scheduler.func, scheduler.keywords) == (StepLR, {"step_size": 7, "gamma": 0.1})


def test_paths_in_the_configuration_are_relative():
    for path in Path(ROOT / "conf").rglob("*.yaml"):
        assert ": /" not in path.read_text(), path


FAMILIES = {
    "resnet18": 64,
    "vgg11": 64,
    "mobilenet_v3_small": 64,
    "efficientnet_lite0": 64,
    "vit_b_16": 32,
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES])
def test_the_strategies_that_are_compared_fit_nets_of_every_family(configure, name):
    if name.startswith("efficientnet_lite"):
        pytest.importorskip("timm")
    compared = OmegaConf.load(ROOT / "conf/sweep/strategies.yaml").strategy.split(",")
    model = configure(f"model={name}").model
    with torch.device("meta"):
        net = instantiate(model, num_classes=2, image_size=FAMILIES[name])
    for strategy in compared:
        phases = instantiate(configure(f"strategy={strategy}", f"model={name}").strategy).schedule(net, 10)
        assert phases[-1].groups[-1].stage == net.head_name


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*options("model")} - {"timm", "torchvision"}))
def test_every_net_has_a_head_that_can_be_solved(configure, name):
    if name.startswith("efficientnet_lite"):
        pytest.importorskip("timm")
    model = configure(f"model={name}").model
    with torch.device("meta"):
        assert linear_head(instantiate(model, num_classes=2, image_size=224)) is not None
