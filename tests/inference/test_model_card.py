"""A model card says what is known about an export and what is not, and its code runs."""

import html
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT
from evaluated import CLASSES, untrained
from markdown_it import MarkdownIt
from PIL import Image
from written_runs import write_run

from thaw.data.preprocessing import Preprocessing
from thaw.evaluation.model_limits import ModelLimits
from thaw.evaluation.prediction_sets import PredictionSets
from thaw.inference.export.exported_model import Check
from thaw.inference.export.formats import FORMATS
from thaw.inference.export.model_card import model_card
from thaw.inference.predict import predictions
from thaw.inference.trained_model import TrainedModel
from thaw.models.backbones import build_net

PRETRAINED = {"source": "a package", "licence": "Apache-2.0", "statement": "its LICENSE states it"}
NAMES = ["a|b", "*x*", "_y_", "`code`", "[link](http://x.org)", "<img src=x>", "&amp;", "\\", "new\nline", "~~z~~"]
NAMES += ["#1", "é猫", "a" * 99]


def write(tmp_path, name="run", classes=CLASSES, **changes):
    """Write a run and return its model."""
    changes = {"checkpoint": "checkpoints/best.ckpt", "pretrained": PRETRAINED, "weights": "imagenet", **changes}
    folder = write_run(
        tmp_path / name, [True] * 5 + [False], classes=classes, root="/home/someone/zoo", split="folders", **changes
    )
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "best.ckpt").write_bytes(b"weights")
    return replace(untrained(folder), classes=classes)


def card_of(model, tmp_path, kind="onnx"):
    return model_card(model, kind, "model.onnx", tmp_path)


def front_matter(card):
    return yaml.safe_load(card.split("---\n")[1])


def tables(card):
    """Return the cells of each table of a card, as a browser shows them."""
    page = MarkdownIt("commonmark").enable("table").render(card.split("---\n", 2)[2])
    return [
        [
            [html.unescape(re.sub("<[^>]*>", "", cell)) for cell in re.findall("<t[dh]>(.*?)</t[dh]>", line, re.DOTALL)]
            for line in re.findall("<tr>(.*?)</tr>", table, re.DOTALL)
        ]
        for table in re.findall("<table>(.*?)</table>", page, re.DOTALL)
    ]


def test_the_hub_reads_the_metrics_of_the_summary(tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    test = {"acc": 0.75, "acc_ci95": [0.5, 0.9], "macro_f1": 0.7, "n": 8}
    model = write(tmp_path, test=test, epochs=3)
    card = card_of(model, tmp_path)
    read = hub.ModelCard(card)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    found = {(one.dataset_split, one.metric_type): one.metric_value for one in read.data.eval_results}
    assert found == {
        ("validation", "accuracy"): summary["val"]["acc"],
        ("validation", "f1"): summary["val"]["macro_f1"],
        ("test", "accuracy"): 0.75,
        ("test", "f1"): 0.7,
    }
    assert read.data.pipeline_tag == "image-classification"
    assert read.data.library_name == "onnx"
    (_, metrics) = tables(card)
    assert ["test, 8 images", "accuracy", "0.7500", "0.5000 to 0.9000"] in metrics
    assert "The best of 3 epochs was chosen by the validation images" in card


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("CC-BY-NC-4.0", {"license": "cc-by-nc-4.0"}),
        ("dinov3-license", {"license": "other", "license_name": "dinov3-license"}),
        (None, {}),
    ],
)
def test_the_licence_is_that_of_the_weights_or_absent(tmp_path, licence, expected):
    card = card_of(write(tmp_path, pretrained={**PRETRAINED, "licence": licence}), tmp_path)
    assert {key: value for key, value in front_matter(card).items() if key.startswith("license")} == expected
    assert ("licence of this model is not known" in card) == (licence is None)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"weights": "none", "pretrained": None}, "It contains no pretrained weights"),
        (
            {"weights": "/home/someone/best.pth", "pretrained": {**PRETRAINED, "licence": None}},
            "come from a package, and",
        ),
    ],
)
def test_a_model_without_a_known_licence_says_who_has_to_check(tmp_path, changes, sentence):
    card = card_of(write(tmp_path, **changes), tmp_path)
    assert sentence in card
    assert "has to check" in card.replace("\n", " ")
    assert "license" not in front_matter(card)


def test_class_names_appear_as_they_are(tmp_path):
    card = card_of(write(tmp_path, classes=NAMES), tmp_path)
    cells = [line[0] for line in tables(card)[0][1:-1]]
    assert cells == [*(name.replace("\n", "\\n") for name in NAMES[:-1]), f"{'a' * 20}…{'a' * 19}"]
    assert front_matter(card)["tags"][0] == "thaw"


def test_a_thousand_classes_are_shortened_and_all_images_counted(tmp_path):
    card = card_of(
        write(tmp_path, classes=[f"class {n}" for n in range(1000)], labels=[0, 1, 2, 3, 998, 999]), tmp_path
    )
    table = tables(card)[0]
    assert table[1] == ["class 0", "1"]
    assert table[-2:] == [["950 more classes", "2"], ["all", "6"]]
    assert len(table) == 53
    assert "The names of all 1,000 classes are in" in card
    assert len(card) < 12_000


def test_every_entry_of_a_summary_may_be_missing(tmp_path):
    model = write(tmp_path)
    path = tmp_path / "run" / "summary.json"
    summary = json.loads(path.read_text())
    for key in summary:
        path.write_text(json.dumps({name: value for name, value in summary.items() if name != key}))
        assert front_matter(card_of(model, tmp_path))["pipeline_tag"] == "image-classification"
    path.write_text("{damaged")
    assert "the folder of its run was not there" in card_of(model, tmp_path)


def test_a_run_that_does_not_say_where_its_weights_came_from_has_no_licence(tmp_path):
    model = write(tmp_path)
    path = tmp_path / "run" / "summary.json"
    summary = json.loads(path.read_text())
    del summary["pretrained"]
    path.write_text(json.dumps(summary))
    card = card_of(model, tmp_path)
    assert "no record says where its pretrained weights came from" in card.replace("\n", " ")
    assert "license" not in front_matter(card)


def test_a_checkpoint_without_its_run_claims_nothing(tmp_path):
    model = replace(untrained(tmp_path), source=tmp_path / "alone" / "best.ckpt")
    card = card_of(model, tmp_path)
    assert front_matter(card).keys() == {"pipeline_tag", "library_name", "tags"}
    assert tables(card) == []
    assert "Nothing is known about the accuracy of these weights" in card


def test_weights_that_the_run_did_not_measure_get_no_metrics(tmp_path):
    model = write(tmp_path)
    soup = tmp_path / "run" / "checkpoints" / "soup.ckpt"
    soup.write_bytes(b"averaged")
    card = card_of(replace(model, source=soup), tmp_path)
    assert "its run measured other weights (best.ckpt)" in card
    assert "model-index" not in front_matter(card)
    assert front_matter(card)["license"] == "apache-2.0"


def test_another_run_of_other_classes_beside_a_checkpoint_is_not_its_run(tmp_path):
    model = replace(write(tmp_path), classes=["other", "names"])
    assert "the folder of its run was not there" in card_of(model, tmp_path)


def test_evaluations_of_the_checkpoint_are_on_the_card(tmp_path):
    model = write(tmp_path)
    best = "/home/someone/run/checkpoints/best.ckpt"
    for name, checkpoint in (("zoo", best), ("val", best), ("old", "/home/someone/last.ckpt")):
        folder = tmp_path / "run" / "evaluation" / name
        folder.mkdir(parents=True)
        facts = {
            "checkpoint": checkpoint,
            "root": "/home/someone/zoo/val" if name == "val" else "/home/someone/other",
            "images": 40,
            "acc": {"value": 0.9, "ci95": [0.8, 0.95]},
            "ece": {"value": 0.02, "ci95": [0.0, 0.1]},
            "robustness": [{"acc": {"value": 0.6}}, {"acc": {"value": 0.8}}],
            "sets": {"coverage": 0.9, "covered": {"value": 0.92}, "mean_size": 1.25},
            "distance": {"foreign": {"images": 30, "unknown": {"value": 0.5}, "auroc": 0.88}},
        }
        (folder / "evaluation.json").write_text(json.dumps(facts))
    card = card_of(model, tmp_path)
    assert "The run has no test images" not in card
    assert ["evaluation on zoo, 40 images", "accuracy", "0.9000", "0.8000 to 0.9500"] in tables(card)[1]
    assert "evaluation on val, images of the run, 40 images" in card
    assert "evaluation on zoo, corrupted images: accuracy 0.7000 on average" in card
    assert "of 30 images that belong to no class, 50.0 %" in card
    assert "evaluation on old" not in card
    assert "/home" not in card


def test_no_folder_of_the_machine_is_named(tmp_path):
    card = card_of(write(tmp_path, weights="/home/someone/w.pth"), tmp_path)
    assert "zoo" in card
    assert "/home" not in card
    assert str(tmp_path) not in card


def test_limits_are_those_of_the_model_and_of_the_format(tmp_path):
    sets = PredictionSets(torch.linspace(-1, 1, 50, dtype=torch.float64))
    model = replace(write(tmp_path), limits=ModelLimits(sets, "its network is compiled"))
    card = " ".join(card_of(model, tmp_path).split())
    assert "fitted on 50 validation images" in card
    assert "They are the output `in_set`" in card
    assert "cannot recognise images of none of its classes, because its network is compiled" in card
    assert "This export does not contain them" in " ".join(card_of(model, tmp_path, "torch").split())


def trained(name, size, folder):
    torch.manual_seed(0)
    net = build_net(name, 3, size)
    for norm in net.modules():
        norm.momentum = 1.0  # of batch norms: without statistics, GoogLeNet's random features are all equal
    net.train()(torch.randint(0, 256, (4, 3, size, size), dtype=torch.uint8))
    net.eval()
    source = folder / "run" / "checkpoints" / "best.ckpt"
    model = TrainedModel(net, CLASSES, Preprocessing(size + 8, size), 1.7, torch.device("cpu"), source)
    images = torch.stack([torch.randint(0, high, (3, size, size), dtype=torch.uint8) for high in (30, 120, 256)])
    weight, bias = [parameter for key, parameter in net.named_parameters() if net.is_head(key)][-2:]
    with torch.no_grad():
        weight.normal_()  # some networks begin with a head of zeros
        weight.mul_(3 / model.logits(images).std(0).mean())
        bias.sub_(model.logits(images).mean(0))
    return model, Check(images, model.probabilities(model.logits(images)))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("safetensors", "resnet18"),  # timm reads it
        ("safetensors", "squeezenet1_1"),  # torchvision reads it
        pytest.param("safetensors", "vit_b_16", marks=pytest.mark.slow),
        pytest.param("safetensors", "googlenet", marks=pytest.mark.slow),
        pytest.param("torch", "squeezenet1_1", marks=pytest.mark.slow),
        pytest.param("onnx", "squeezenet1_1", marks=pytest.mark.slow),
    ],
)
def test_the_code_on_the_card_predicts_what_the_model_predicts(tmp_path, monkeypatch, capsys, kind, name):
    pytest.importorskip("timm" if kind == "safetensors" else "onnxruntime")
    model, check = trained(name, 64, tmp_path)
    file = tmp_path / "files" / "model.bin"
    file.parent.mkdir()
    place = file.parent if kind == "safetensors" else file
    if kind == "safetensors":
        place.rmdir()
    FORMATS[kind](model, place, check)
    card = model_card(model, kind, file.name, place)
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file.parent / "photo.jpg", quality=95)
    monkeypatch.chdir(file.parent)
    capsys.readouterr()
    exec(compile(re.search("```python\n(.*?)```", card, re.DOTALL)[1], "card", "exec"), {})
    printed = [line.split(" ", 1) for line in capsys.readouterr().out.splitlines()]
    shares = {name: float(share) for share, name in printed}
    (expected,) = predictions(model, ["photo.jpg"], top=3)
    assert shares == pytest.approx(dict(expected.top), abs=1e-3)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)  # SqueezeNet's logits can be equal
    assert max(shares.values()) > 0.34, "else equal probabilities agree with anything"
    assert all(str(ROOT).encode() not in path.read_bytes() for path in file.parent.iterdir())


def test_images_with_several_classes_have_thresholds_and_mean_average_precision(tmp_path, monkeypatch, capsys):
    pytest.importorskip("timm")
    model, check = trained("resnet18", 64, tmp_path)
    temperature, thresholds = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.1, 0.9, 0.4])
    model = replace(model, temperature=temperature, thresholds=thresholds)
    val = {"map": 0.6, "map_ci95": [0.5, 0.7], "acc": 0.8, "macro_f1": 0.55, "macro_f1_ci95": [0.4, 0.7], "n": 6}
    run = write_run(
        tmp_path / "run", [True] * 6, classes=CLASSES, val=val, metric="map", checkpoint="checkpoints/best.ckpt"
    )
    (run / "checkpoints").mkdir()
    model.source.write_bytes(b"weights")
    expected = model.probabilities(model.logits(check.images))
    FORMATS["safetensors"](model, tmp_path / "out", Check(check.images, expected, thresholds))
    card = model_card(model, "safetensors", "out", tmp_path / "out")
    (metrics,) = (table for table in tables(card) if table[0][0] == "images")
    assert metrics[1:4] == [
        ["validation, 6 images", "mean average precision (mAP)", "0.6000", "0.5000 to 0.7000"],
        ["validation, 6 images", "share of the classes that are decided correctly", "0.8000", "–"],
        ["validation, 6 images", "F1, mean of the classes", "0.5500", "0.4000 to 0.7000"],
    ]
    types = [one["type"] for one in front_matter(card)["model-index"][0]["results"][0]["metrics"]]
    assert types == ["mean_average_precision", "f1"]
    Image.new("RGB", (90, 90), (200, 30, 90)).save(tmp_path / "out" / "photo.jpg")
    monkeypatch.chdir(tmp_path / "out")
    capsys.readouterr()
    exec(compile(re.search("```python\n(.*?)```", card, re.DOTALL)[1], "card", "exec"), {})
    *lines, predicted = capsys.readouterr().out.splitlines()
    probabilities = model.probabilities(model.logits(model.read("photo.jpg")[None]))[0]
    shares = {name: float(share) for share, name in (line.split(" ", 1) for line in lines)}
    assert shares == pytest.approx(dict(zip(CLASSES, probabilities.tolist(), strict=True)), abs=1e-3)
    own = [name for name, chosen in zip(CLASSES, (probabilities >= thresholds).tolist(), strict=True) if chosen]
    assert predicted == f"predicted: {own}"


def test_a_network_of_ones_own_gets_no_code_that_cannot_run(tmp_path):
    model = write(tmp_path)
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    FORMATS["safetensors"](model, tmp_path / "out", Check(images, model.probabilities(model.logits(images))))
    card = model_card(model, "safetensors", "out", tmp_path / "out")
    assert "```" not in card
    assert "only code that builds it can load the weights" in card


def test_a_card_that_fails_costs_no_export(tmp_path, monkeypatch):
    from thaw.inference.export.export import export

    model = write(tmp_path)
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    checked = Check(images, model.probabilities(model.logits(images)))
    monkeypatch.setattr("thaw.inference.export.export.load_model", lambda run, **options: model)
    monkeypatch.setattr("thaw.inference.export.export.check", lambda *given: checked)
    monkeypatch.setattr("thaw.inference.export.export.model_card", lambda *given: 1 / 0)
    done = export(Path("run"), tmp_path / "out", "safetensors", [])
    assert sorted(done.files) == ["config.json", "export.json", "model.safetensors"]
