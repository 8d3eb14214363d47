"""A new head begins with every class as likely as any other, and learns on features of one scale."""

import math

import pytest
import torch
import torch.nn.functional as F
from callbacks import Signals
from conftest import ROOT
from hydra.utils import instantiate
from nets import tiny_net
from torch import nn

from thaw.demo.drawings import draw_animal
from thaw.errors import UserError
from thaw.models.backbones import build_net
from thaw.models.head import NewHead, StandardizedLinear, feature_scale, fold_head, head_layers
from thaw.models.sizes import demo_size
from thaw.storage.checkpoints import read_checkpoint
from train import main


def far_features(count=200, width=6):
    return 40 + 3 * torch.randn(count, width, generator=torch.Generator().manual_seed(0)) @ torch.randn(width, width)


def test_a_standardised_layer_computes_what_its_folded_state_computes():
    x = far_features()
    layer = StandardizedLinear(nn.Linear(6, 3))
    before = layer(x)
    layer.standardize(*_scale(x))
    assert torch.allclose(layer(x), before, atol=1e-4), "the scale changes nothing by itself"
    plain = nn.Linear(6, 3)
    plain.load_state_dict({k.removeprefix("fc."): v for k, v in fold_head(_named(layer)).items()})
    assert plain(x).equal(layer(x))


def test_learning_is_that_of_a_plain_layer_on_standardised_features():
    x, labels = far_features(), torch.arange(200) % 3
    layer, plain = StandardizedLinear(nn.Linear(6, 3)), nn.Linear(6, 3)
    for start in (layer, plain):
        nn.init.zeros_(start.weight), nn.init.zeros_(start.bias)
    mean, scale = _scale(x)
    layer.standardize(mean, scale)
    for net, given in ((layer, x), (plain, (x - mean) * scale)):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
        for _ in range(20):
            optimizer.zero_grad()
            F.cross_entropy(net(given), labels).backward()
            optimizer.step()
    assert torch.allclose(layer.weight, plain.weight, atol=1e-4)
    assert torch.allclose(layer(x), plain((x - mean) * scale), atol=1e-3)


def test_the_scale_is_the_same_whatever_the_features_scale_and_grows_with_the_classes():
    x = far_features()
    for factor in (1, 1e-3, 1e4):
        mean, scale = feature_scale([factor * x[:50], factor * x[50:]], classes=2)
        norm = ((factor * x.double() - mean) * scale).square().sum(1).mean().item()
        assert norm == pytest.approx(100, rel=1e-6)
    _, for_two = feature_scale([x], 2)
    _, for_many = feature_scale([x], 200)
    assert (for_many / for_two) ** 2 == pytest.approx(10)


def test_features_that_do_not_differ_are_left_as_they_are():
    mean, scale = feature_scale([torch.full((8, 3), 2.5)], 2)
    assert scale == 1 and mean.equal(torch.zeros(3, dtype=torch.float64))


def test_a_plain_state_is_loaded_as_it_is():
    layer = StandardizedLinear(nn.Linear(6, 3))
    layer.standardize(*_scale(far_features()))
    plain = nn.Linear(6, 3)
    layer.load_state_dict(plain.state_dict())
    assert layer(torch.ones(6)).equal(plain(torch.ones(6)))


def _named(layer):
    return {f"fc.{key}": value for key, value in layer.state_dict().items()}


def _scale(x):
    mean, scale = feature_scale([x], 2)
    return mean.float(), scale


def test_a_new_head_calls_every_class_equally_likely():
    for name in ("resnet18", "squeezenet1_1"):
        size = demo_size(name)
        net = build_net(name, 5, size)
        NewHead().install(net)
        logits = net.eval()(torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8))
        if head_layers(net):
            assert logits.equal(torch.zeros(2, 5)), name
    assert not head_layers(net), "squeezenet ends in a convolution, which stays as it is drawn"


@pytest.mark.parametrize("wrong", [{"start": "ones"}, {"standardize": "yes"}])
def test_unknown_beginnings_are_refused(wrong):
    with pytest.raises(UserError, match=r"head\.(start|standardize)="):
        NewHead(**wrong)


def test_the_tutorials_recipe_has_the_tutorials_head(configure):
    assert configure("experiment=article").head == {**configure().head, "start": "drawn", "standardize": False}


@pytest.mark.slow
@pytest.mark.parametrize("place", [("train", 1, 0), pytest.param(("validation", 1, 0), marks=pytest.mark.slow)])
def test_a_standardised_head_goes_on_bit_for_bit(
    tiny_run, tmp_path, image_folder, without_pictures, monkeypatch, place
):
    root = image_folder()
    recipe = ["strategy=feature_extractor", "trainer.max_epochs=4", "callbacks.last.share=1e9"]
    signals = "+callbacks.signals._target_=callbacks.Signals"
    monkeypatch.setattr(Signals, "places", [None])
    main(tiny_run(*recipe, signals, root=root, folder="whole"))
    monkeypatch.setattr(Signals, "places", [place])
    with pytest.raises(SystemExit) as stop:
        main(tiny_run(*recipe, signals, root=root, folder="part"))
    assert stop.value.code == 143
    monkeypatch.setattr(Signals, "places", [None])
    main(tiny_run(*recipe, signals, f"resume={tmp_path / 'part'}", root=root, folder="part"))
    ended = [read_checkpoint(tmp_path / folder / "checkpoints" / "last.ckpt") for folder in ("whole", "part")]
    assert ended[0]["head"]["net.fc.feature_scale"] != 1, "it was standardised"
    for key in ("state_dict", "head"):
        for name, tensor in ended[0][key].items():
            assert tensor.equal(ended[1][key][name]), name


MODELS = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))
DEEPER = ("101", "152", "13", "16", "19", "13_bn", "16_bn", "19_bn", "lite1", "lite2")  # a smaller one stands for them


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODELS if not name.endswith(DEEPER) or name == "vit_b_16"])
def test_the_first_epoch_never_leaves_chance_upwards(name, configure):
    """An epoch of the default strategy's head on the features of random layers, drawn animals in batches of 16."""
    model = configure(f"model={name}", *_CHOSEN.get(name, [])).model
    size = demo_size(model.name, model._target_)
    torch.manual_seed(0)
    net = instantiate(model, num_classes=2, image_size=size).eval()
    images = torch.stack([_drawn(species, number, size) for number in range(48) for species in ("cat", "dog")])
    labels = torch.arange(96) % 2
    NewHead().install(net)
    layer = net.get_submodule(*head_layers(net))
    seen = []
    with layer.register_forward_pre_hook(lambda module, given: seen.append(given[0])), torch.no_grad():
        for part in images.split(16):
            net(part)
    features = torch.cat(seen)
    layer.standardize(*_scale(features))
    losses = [_first_epoch(layer, features, labels, seed) for seed in range(3)]
    assert sum(losses) / 3 <= math.log(2) + 0.05, losses


_CHOSEN = {"torchvision": ["model.name=resnet18"], "timm": ["model.name=resnet18"]}


def _drawn(species, number, size):
    image = draw_animal(species, f"first/{number}").resize((size, size))
    return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(size, size, 3).permute(2, 0, 1)


def _first_epoch(layer, features, labels, seed):
    nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)
    optimizer, total = torch.optim.SGD(layer.parameters(), lr=0.01, momentum=0.9), 0.0
    for part in torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).split(16):
        loss = F.cross_entropy(layer(features[part]), labels[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(part)
    return total / len(labels)


def test_the_net_of_tests_has_a_head_like_others():
    assert list(head_layers(tiny_net(2))) == ["fc"]
