"""What is exported says what the checkpoint says, or is not there."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from nets import tiny_net
from PIL import Image

from thaw.data.preprocessing import TUTORIAL
from thaw.errors import RunError
from thaw.inference.export.export import export as export_model
from thaw.inference.export.exported_model import Check, ExportedModel
from thaw.inference.export.formats import as_onnx, as_safetensors
from thaw.inference.predict import predictions
from thaw.inference.trained_model import TrainedModel, load_model
from thaw.models.backbones import build_net, family_of
from thaw.models.families.timm import Timm
from thaw.models.sizes import published_preprocessing
from train import main

CLASSES = ["ants", "bees & wasps", "ünï"]
needs_onnx = pytest.mark.skipif(
    any(__import__("importlib.util").util.find_spec(name) is None for name in ("onnx", "onnxruntime", "onnxscript")),
    reason="needs pip install thaw[export]",
)


@pytest.fixture
def trained(tiny_run, tmp_path, without_pictures):
    """A run of a net of torchvision's, on images that are resized bicubically."""
    main(
        tiny_run(
            "data.preprocessing.name=efficientnet_b0",
            "strategy.lr=0.1",
            "data.image_size=32",
            "model._target_=thaw.models.backbones.build_net",
            "model.name=squeezenet1_1",
        )
    )
    return tmp_path / "run"


@pytest.fixture
def export(script):
    return partial(script, "export")


def untrained(name, size):
    """A model whose answers are neither all equal nor all sure, and a check of it."""
    if isinstance(family_of(name), Timm):
        pytest.importorskip("timm", reason="timm is not installed: pip install -e '.[timm]'")
    torch.manual_seed(0)
    net = build_net(name, len(CLASSES), size).eval()
    preprocessing = published_preprocessing(name).scaled(size)
    model = TrainedModel(net, CLASSES, preprocessing, 1.7, torch.device("cpu"), Path())
    images = torch.stack([torch.randint(0, high, (3, size, size), dtype=torch.uint8) for high in range(24, 256, 7)])
    images = images[:33]
    weight, bias = [parameter for key, parameter in net.named_parameters() if net.is_head(key)][-2:]
    with torch.no_grad():  # every class is the likeliest of some images
        weight.mul_(3 / model.logits(images).std(0).mean())
        bias.sub_(model.logits(images).mean(0))
    return model, Check(images, model.probabilities(model.logits(images)))


@needs_onnx
@pytest.mark.parametrize(
    ("name", "size"),
    [
        pytest.param("mobilenet_v3_small", 96, marks=pytest.mark.slow),
        pytest.param("resnet34", 96, marks=pytest.mark.slow),
        pytest.param("caffe_resnet50", 96, marks=pytest.mark.slow),
        pytest.param("inception_v3", 96, marks=pytest.mark.slow),
        pytest.param("vgg11", 96, marks=pytest.mark.slow),
        pytest.param("efficientnet_lite0", 96, marks=pytest.mark.slow),
    ],
)
def test_onnx_runtime_agrees_to_1e_4_one_image_or_32_at_once(tmp_path, name, size):
    import onnxruntime

    model, check = untrained(name, size)
    found = as_onnx(model, tmp_path / "model.onnx", check)
    assert [len(part) for part in check.batches()] == [1, 32]
    assert (found - check.expected).abs().max() < 1e-4
    assert found.argmax(1).equal(check.expected.argmax(1))
    assert len(set(check.expected.argmax(1).tolist())) > 1, "else every class is easily the same"
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (given,), (told,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape[1:]) == ("images", "tensor(uint8)", [size, size, 3])
    assert (told.name, told.shape[1]) == ("probabilities", 3)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == CLASSES
    assert json.loads(metadata["preprocessing"]) == {**asdict(model.preprocessing), "mode": "RGB"}
    assert float(metadata["temperature"]) == 1.7


@needs_onnx
@pytest.mark.slow
def test_a_program_without_pytorch_reproduces_names_and_probabilities(trained, export, tmp_path):
    status, told, errors = export(trained, tmp_path / "out" / "model.onnx", "--format", "onnx")
    assert (status, errors) == (0, "")
    assert "every class equals the checkpoint" in told
    photos = tmp_path / "sizes"
    photos.mkdir()
    random = np.random.default_rng(0)
    for number, (width, height) in enumerate([(40, 49), (33, 90), (72, 37), (36, 36), (20, 25)]):
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{number}.png")
    Image.fromarray(pixels[..., 0]).save(photos / "grey.png")
    paths = sorted(map(str, photos.iterdir()))
    program = [
        sys.executable,
        "-I",
        str(ROOT / "tests" / "onnx_program.py"),
        str(tmp_path / "out" / "model.onnx"),
        *paths,
    ]
    done = subprocess.run(program, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""})
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    model = load_model(trained, exact=True)
    for line, expected in zip(lines, predictions(model, paths, top=2), strict=True):
        assert line["predicted"] == expected.top[0][0]
        by_name = dict(zip(model.classes, line["probabilities"], strict=True))
        assert by_name == pytest.approx(dict(expected.top), abs=1e-4)


@pytest.mark.slow
def test_pytorchs_own_export_says_the_same(trained, export, tmp_path):
    assert export(trained, tmp_path / "model.pt2", "--format", "torch")[0] == 0
    files = {"thaw.json": ""}
    program = torch.export.load(tmp_path / "model.pt2", extra_files=files).module()
    told = json.loads(files["thaw.json"])
    model = load_model(trained, exact=True)
    paths = sorted(map(str, (tmp_path / "photos" / "val").rglob("*.png")))
    images = torch.stack([model.read(path) for path in paths])
    expected = model.probabilities(model.logits(images))
    assert torch.allclose(program(images.permute(0, 2, 3, 1).contiguous()), expected, atol=1e-5)
    assert told["classes"] == list(model.classes)
    record = json.loads((tmp_path / "model.pt2.json").read_text())
    assert record["checked_images"] == 10
    assert 0 <= record["largest_difference"] < 1e-4


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("resnet18", True),
        ("efficientnet_lite0", True),
        pytest.param("vgg11", True, marks=pytest.mark.slow),
        ("squeezenet1_1", False),
    ],
)
def test_timm_reads_the_folder_where_it_has_the_net(tmp_path, name, known):
    timm = pytest.importorskip("timm")
    model, check = untrained(name, 64)
    found = as_safetensors(model, tmp_path / name, check)
    assert torch.allclose(found, check.expected, atol=1e-5)
    config = json.loads((tmp_path / name / "config.json").read_text())
    assert bool(config["thaw"]["timm"]) == known
    assert config["pretrained_cfg"]["label_names"] == CLASSES
    if known:
        net = timm.create_model(f"local-dir:{tmp_path / name}", pretrained=True).eval()
        transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=net))
        image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8))
        with torch.no_grad():
            logits = net(transform(image)[None])
        assert torch.allclose(logits, model.logits(model.transform(image)[None]), atol=1e-3)


def test_a_net_of_ones_own_is_exported_and_read_back(tmp_path):
    model = TrainedModel(tiny_net(2).eval(), ["a", "b"], TUTORIAL.scaled(16), 1.0, torch.device("cpu"), Path())
    images = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
    expected = model.probabilities(model.logits(images))
    assert as_safetensors(model, tmp_path / "out", Check(images, expected)).equal(expected)


@pytest.mark.parametrize(
    "kind",
    [
        "safetensors",
        pytest.param("torch", marks=pytest.mark.slow),
        pytest.param("onnx", marks=[needs_onnx, pytest.mark.slow]),
    ],
)
def test_names_in_any_bytes_are_exported_to(tmp_path, monkeypatch, kind):
    source = tmp_path / "best.ckpt"
    source.write_bytes(b"weights")
    model = TrainedModel(tiny_net(2).eval(), ["a", "b"], TUTORIAL.scaled(16), 1.0, torch.device("cpu"), source)
    images = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
    checked = Check(images, model.probabilities(model.logits(images)))
    monkeypatch.setattr("thaw.inference.export.export.load_model", lambda run, **options: model)
    monkeypatch.setattr("thaw.inference.export.export.check", lambda *given: checked)
    folder = tmp_path / os.fsdecode(b"f\xe9")
    done = export_model(Path("run"), folder / os.fsdecode(b"caf\xe9.model"), kind, [])
    assert (done.images, done.path.exists()) == (3, True)
    assert all(b"\xe9" in os.fsencode(path.name) for path in folder.iterdir())


@pytest.mark.slow
def test_what_differs_from_its_checkpoint_is_deleted(trained, export, tmp_path, monkeypatch):
    class Broken(ExportedModel):
        def forward(self, images):
            return 0.9 * super().forward(images)

    monkeypatch.setattr("thaw.inference.export.formats.ExportedModel", Broken)
    status, _, errors = export(trained, tmp_path / "out" / "model.pt2", "--format", "torch")
    assert status == 1
    assert errors.startswith("error: the export differs from the checkpoint by ")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_difference_that_is_not_a_number_is_one():
    expected = torch.tensor([[0.5, 0.5]])
    with pytest.raises(RunError, match="differs from the checkpoint by nan"):
        Check(torch.zeros(1, 3, 8, 8), expected).difference(torch.tensor([[float("nan"), 0.5]]))


def test_it_is_checked_on_images_of_every_class_or_on_those_that_are_named(trained, export, tmp_path):
    photos = tmp_path / "photos"
    one = photos / "val" / "ants" / "0.png"
    assert export(trained, tmp_path / "a.pt2", "--format", "torch", "--images", one)[0] == 0
    assert json.loads((tmp_path / "a.pt2.json").read_text())["checked_images"] == 1
    photos.rename(tmp_path / "gone")
    status, _, errors = export(trained, tmp_path / "b.pt2", "--format", "torch")
    assert status == 2
    assert errors.startswith("error: there are no images to check the export with")
    status, _, errors = export(trained, tmp_path / "a.pt2", "--format", "torch")
    assert (status, errors.count("exists already")) == (2, 1)
