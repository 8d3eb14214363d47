import contextlib
import sys
from collections import Counter

import pytest
import torch
from hydra.utils import instantiate
from steps import changed_by_a_step
from torch.nn.modules.batchnorm import _NormBase

from thaw.errors import UserError
from thaw.features.prefix import FrozenPrefix, frozen_cut
from thaw.models.backbones import build_net, family_of
from thaw.models.families.timm import build_timm_net
from thaw.models.families.timm_chain import staged
from thaw.models.sizes import demo_size
from thaw.models.weights import load_weights
from thaw.strategy.phases import Strategy
from thaw.strategy.selection import selected
from thaw.training.classifier import ImageClassifier, Recipe

timm = pytest.importorskip("timm", reason="timm is not installed: pip install -e '.[timm]'")

STAGES = {
    "resnet10t": ["stem", "layer1", "layer2", "layer3", "layer4", "fc"],
    "resnet18": ["stem", "layer1", "layer2", "layer3", "layer4", "fc"],
    "vit_tiny_patch16_224": ["stem", *(f"blocks.{n}" for n in range(12)), "head"],
    "convnext_atto": ["stem", *(f"stages.{n}" for n in range(4)), "head.fc"],
    "efficientnet_lite0": ["stem", *(f"blocks.{n}" for n in range(7)), "classifier"],
    "mobilenetv3_small_050": ["stem", *(f"blocks.{n}" for n in range(6)), "conv_head", "classifier"],
    "regnetx_002": ["stem", "s1", "s2", "s3", "s4", "head.fc"],
}
CHAINS = {"resnet10t", "resnet18", "efficientnet_lite0", "mobilenetv3_small_050"}


def timms(name, num_classes=5, image_size=32):
    torch.manual_seed(0)
    size = {"img_size": image_size} if name.startswith("vit") else {}
    model = timm.create_model(name, num_classes=num_classes, **size)
    for tensor in model.state_dict().values():  # as if it had learned: no zeros behind which differences would vanish
        if tensor.ndim == 1 and not tensor.eq(1).all():
            tensor.normal_(std=0.1)
    return model.eval()


@pytest.fixture(scope="module", params=STAGES)
def family(request):
    """A name, timm's net, ours and images."""
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    return request.param, timms(request.param), build_timm_net(request.param, 5, image_size=32), images


def test_a_net_gives_bit_for_bit_the_logits_of_timms_on_images_normalised_as_timm_says(family):
    _, reference, net, images = family
    net.eval().model.load_state_dict(reference.state_dict(), strict=True)
    mean, std = (torch.tensor(reference.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.inference_mode():
        normalized = net.normalize(images)
        logits = net(images)
        assert logits.equal(reference(normalized))
    assert torch.allclose(normalized, (images / 255 - mean) / std, atol=1e-6)
    assert not logits[0].equal(logits[1])
    assert set(net.state_dict()) == {f"model.{key}" for key in reference.state_dict()}


def test_stages_are_timms_groups_by_depth_and_hold_every_parameter_and_batch_norm_once(family):
    name, _, net, _ = family
    assert net.learned_stages == STAGES[name]
    in_stages = [key for stage in net.stages for key in net.stage_parameters(stage)]
    assert sorted(in_stages) == sorted(key for key, _ in net.named_parameters())
    reached = Counter(part for stage in net.stages for top in net.stage_modules(stage) for part in top.modules())
    assert all(reached[part] == 1 for part in net.modules() if isinstance(part, _NormBase))


def test_nets_that_are_chains_give_the_same_logits_from_every_stage_on(family):
    name, reference, net, images = family
    net.eval().model.load_state_dict(reference.state_dict())
    if name not in CHAINS:
        assert [stage for stage in net.learned_stages if net.can_be_cut(stage)] == [net.head_name]
        return
    with torch.inference_mode():
        expected, features = reference(net.normalize(images)), images
        for stage in net.stages:
            assert net.can_be_cut(stage)
            assert net(features, start=stage).equal(expected)
            assert stage == "normalize" or net.until(stage)(images).equal(features)
            features = net.run_stage(stage, features)
        assert features.equal(expected)


def test_a_net_that_is_no_chain_in_spite_of_its_class_is_left_to_timm(monkeypatch):
    forward = timm.models.ResNet.forward_head
    monkeypatch.setattr(timm.models.ResNet, "forward_head", lambda net, x, *more: 2 * forward(net, x, *more))
    net = build_timm_net("resnet10t", 2, image_size=32)
    assert not net.can_be_cut("layer4")
    assert not net.can_be_cut("fc"), "its last layer is not what comes last"


def test_dropout_before_the_classifier_is_that_of_timm():
    model = timm.create_model("efficientnet_lite0", num_classes=5, drop_rate=0.5)
    net = staged(model, {"name": "timm/efficientnet_lite0"}, (0.5,) * 3, (0.5,) * 3, 32)
    assert [type(module).__name__ for module in net.stage_modules("classifier")] == ["Dropout", "Linear"]
    assert set(net.state_dict()) == {f"model.{key}" for key in model.state_dict()}
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        features = net.eval()(images)  # statistics are those of a new net
        net.train()
        for module in net.modules():
            module.training = isinstance(module, torch.nn.Dropout) or module is net.model
        torch.manual_seed(0)
        expected = model(net.normalize(images))
        torch.manual_seed(0)
        assert net(images).equal(expected)
        assert not expected.equal(features)


def test_a_training_step_of_the_feature_extractor_changes_the_whole_head_and_nothing_else(family):
    _, _, net, images = family
    changed = changed_by_a_step(net, images)
    assert changed == {key for key in net.state_dict() if net.is_head(key)}
    assert {key.rpartition(".")[0] for key in changed} == {f"model.{net.head_name}"}


def test_images_have_the_size_that_the_net_expects(configure):
    net = ["model=timm", "model.name=inception_v4"]
    assert instantiate(configure(*net, "data=image_folder").data.preprocessing).crop == 299
    assert instantiate(configure(*net).data.preprocessing).crop == 299, "it takes no images as small as the demo's are"
    assert instantiate(configure("model=timm", "model.name=resnet10t").data.preprocessing).crop == 64


def test_a_configuration_builds_an_equal_net_again():
    net = build_timm_net("vit_tiny_patch16_224", 5, image_size=32)
    assert net.config == {"name": "timm/vit_tiny_patch16_224", "num_classes": 5, "image_size": 32}
    again = build_net(**net.config)
    assert {key: value.shape for key, value in again.state_dict().items()} == {
        key: value.shape for key, value in net.state_dict().items()
    }
    with pytest.raises(UserError, match=r"data.train_size=48 must equal data.image_size=32"):
        net.check_sizes(32, 48)


def test_parts_are_named_as_timm_names_them():
    net = build_timm_net("resnet18", 2)
    names = selected(["layer4.0", "*.bn2.bias"], net)
    assert "model.layer4.0.conv1.weight" in names
    assert "model.layer2.1.bn2.bias" in names
    assert "model.layer4.1.conv1.weight" not in names


def assert_backbone_is(net, tensors):
    for key, value in net.state_dict().items():
        assert net.is_head(key) or value.equal(tensors[key.removeprefix("model.")]), key


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224"])
@pytest.mark.parametrize("prefix", ["", "net.model."])
def test_a_file_with_timms_names_or_a_checkpoint_of_ours_fills_all_but_the_head(name, prefix, tmp_path):
    tensors = timms(name, num_classes=7).state_dict()
    torch.save({prefix + key: value for key, value in tensors.items()}, tmp_path / "w.pth")
    net = build_timm_net(name, 2, image_size=32)
    load_weights(net, str(tmp_path / "w.pth"))
    assert_backbone_is(net, tensors)


def test_position_embeddings_of_another_size_are_resampled_as_timm_does(tmp_path):
    name = "vit_tiny_patch16_224"
    tensors = timms(name, num_classes=7, image_size=64).state_dict()
    torch.save(tensors, tmp_path / "w.pth")
    net = build_timm_net(name, 2, image_size=32)
    load_weights(net, str(tmp_path / "w.pth"))
    expected = timm.layers.resample_abs_pos_embed(tensors["pos_embed"], (2, 2))
    assert_backbone_is(net, tensors | {"pos_embed": expected})


def test_weights_of_another_net_are_refused(tmp_path):
    torch.save(timms("resnet18").state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"does not fit timm/resnet10t: .* 'model\."):
        load_weights(build_timm_net("resnet10t", 2), str(tmp_path / "w.pth"))


def test_imagenet_weights_are_loaded_by_timm(tmp_path, monkeypatch):
    tensors = timms("resnet10t", num_classes=1000).state_dict()
    torch.save(tensors, tmp_path / "published.pth")
    published = timm.models._registry._model_pretrained_cfgs["resnet10t.c3_in1k"]
    monkeypatch.setattr(published, "file", str(tmp_path / "published.pth"))
    net = build_timm_net("resnet10t", 2)
    load_weights(net, "imagenet")
    assert_backbone_is(net, tensors)


@pytest.mark.parametrize("name", ["resnet10t", "mixer_s32_224"])
def test_imagenet_weights_that_cannot_be_had_name_the_ways_on(name, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # without it, it tries again for a minute
    net = build_timm_net(name, 2)
    ways_on = "weights=demo, weights=none or weights=PATH"
    with pytest.raises(UserError, match=rf"weights=imagenet: timm cannot load .* for {name} .*{ways_on}"):
        load_weights(net, "imagenet")


def test_an_unknown_name_is_refused_with_the_nearest_choices():
    with pytest.raises(UserError, match=r"'resnet19' is unknown to timm; .*resnet18") as error:
        build_timm_net("resnet19", 2)
    assert len(str(error.value).split(",")) <= 12


def test_a_net_that_timm_does_not_group_is_refused():
    with torch.device("meta"), pytest.raises(UserError, match=r"'poolformer_s12' has .* no layer groups in timm"):
        build_timm_net("poolformer_s12", 2)


def test_images_that_do_not_fit_are_refused_with_the_published_size():
    with pytest.raises(UserError, match=r"data.image_size=100 does not fit coatnet_0_224 .*set data.image_size=224"):
        build_timm_net("coatnet_0_224", 2, image_size=100)


def test_demo_weights_are_learned_on_small_images_where_the_net_takes_them():
    assert demo_size("timm/vit_tiny_patch16_224") == 64
    assert family_of("timm/coatnet_0_224").smallest_image("timm/coatnet_0_224", 100) == 224


def test_without_timm_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"pip install -e '.\[timm\]'"):
        build_timm_net("resnet18", 2)


def test_features_before_the_head_and_the_head_are_the_net(family):
    _, theirs, net, images = family
    net.model.load_state_dict(theirs.state_dict())
    phase = Strategy("x", [{"train": ["head"]}], lr=0.1).schedule(net, 1)[0]
    ImageClassifier(net, list("abcde"), Recipe(None, None)).start(phase)
    modes = [module.training for module in net.modules()]
    assert frozen_cut(net, phase) == net.head_name
    assert [module.training for module in net.modules()] == modes, "the net is left as it was"
    prefix = FrozenPrefix(net, net.head_name, torch.device("cpu"), contextlib.nullcontext)
    with torch.no_grad():
        torch.testing.assert_close(net(prefix(images), start=net.head_name), theirs(net.normalize(images)))


def test_a_net_with_two_heads_is_not_cut():
    net = build_timm_net("deit_tiny_distilled_patch16_224", 2, image_size=32)
    assert not net.can_be_cut(net.head_name)
