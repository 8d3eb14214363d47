"""What a run learned can be used on any image files."""

import csv
import io
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import with_nets
from conftest import ROOT, rows
from PIL import Image
from torchvision.transforms import v2

from thaw.data.grey import FULL
from thaw.data.images import load_rgb
from thaw.data.preprocessing import Preprocessing
from thaw.inference.gallery import write_gallery
from thaw.inference.image_paths import image_paths
from thaw.inference.predict import Prediction, predictions
from thaw.inference.trained_model import load_model
from thaw.training.checkpoint_io import describe_checkpoint
from train import main

ENDIANS = ("", "-le", "-be")  # without one, the list has a byte order mark


@pytest.fixture
def trained(tiny_run, tmp_path, without_pictures):
    """A run of the tiny net, and its photographs."""

    def train(*overrides):
        main(tiny_run("strategy.lr=0.1", *overrides))
        return tmp_path / "run", tmp_path / "photos"

    return train


@pytest.fixture
def predict(script):
    return partial(script, "predict")


@pytest.mark.parametrize(
    "overrides",
    [["strategy=fine_tune"], ["strategy=feature_extractor"], ["strategy=bias", "trainer.precision=bf16-mixed"]],
    ids=["images", "features", "bfloat16"],
)
def test_it_says_of_validation_images_what_the_run_said(trained, monkeypatch, overrides):
    monkeypatch.setattr("thaw.inference.trained_model.best_precision", lambda device: "bf16-mixed")
    run, photos = trained(*overrides)
    model, said = load_model(run), rows(run / "predictions.csv")
    paths = [str(photos / row["path"]) for row in said]
    found = list(predictions(model, paths, top=2))
    assert [one.top[0][0] for one in found] == [row["predicted"] for row in said]
    logits = model.logits(torch.stack([model.read(path) for path in paths]))
    raw = [[float(row[f"p_{name}"]) for name in model.classes] for row in said]
    assert logits.softmax(1).numpy() == pytest.approx(np.array(raw), abs=1e-6)
    for one, probabilities in zip(found, (logits / model.temperature).softmax(1), strict=True):
        assert dict(one.top) == pytest.approx(dict(zip(model.classes, probabilities.tolist(), strict=True)))


def test_images_are_prepared_as_the_checkpoint_says(trained, tmp_path):
    run, photos = trained("data.preprocessing.name=swin_t")  # whose weights were published with others than the net's
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)).save(photo)
    path = run / "checkpoints" / "best.ckpt"
    assert load_model(run).preprocessing == Preprocessing(17, 16, "bicubic", FULL)
    said = {row["path"]: row for row in rows(run / "predictions.csv")}
    for found in predictions(load_model(run), [str(photos / name) for name in said]):
        assert found.top[0][0] == said[Path(found.path).relative_to(photos).as_posix()]["predicted"]
    bicubic = load_model(run).read(photo)
    describe_checkpoint(path, preprocessing={"resize": 30, "crop": 16})  # as older ones do, for which it was bilinear
    older = load_model(run)
    expected = v2.Compose([v2.Resize(30), v2.CenterCrop(16), v2.PILToTensor()])(load_rgb(photo, 60))
    assert older.read(photo).equal(expected)
    assert not older.read(photo).equal(bicubic)


def test_it_needs_neither_the_data_nor_the_place_of_training(trained, tmp_path):
    run, photos = trained()
    photo = photos.rename(tmp_path / "elsewhere") / "val" / "ants" / "0.png"
    moved = run.rename(tmp_path / "a run")
    (found,) = predictions(load_model(moved), [str(photo)])
    assert found.top[0][0] in ("ants", "bees")


def test_names_stand_for_files_folders_patterns_and_a_list(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = ("a/2.jpg", "a/b/1.PNG", "a/.hidden.jpg", "a/.secret/3.jpg", "c/ünï [1].webp")
    for name in (*images, "a/notes.txt", "empty/x.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    named = ["a", "c/*.webp", "c/ünï [1].webp", "-", "nothing.jpg", "no*.jpg", "empty"]
    found, faults = image_paths(named, io.StringIO("a/2.jpg\n\na/notes.txt\n"))
    assert found == ["a/2.jpg", "a/b/1.PNG", "c/ünï [1].webp", "a/notes.txt"]
    assert faults[:2] == ["there is no file nothing.jpg.", "there is no file no*.jpg."]
    assert faults[2].startswith("there is no image in empty: none of its files ends in .jpg")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", *(f"utf-{n}{end}" for n in (16, 32) for end in ENDIANS)])
def test_a_list_may_be_in_any_unicode_encoding(encoding):
    names = ["/no/ü.jpg", "b/\N{CAT FACE}.jpg", "c.jpg"]
    for ends in ("\n", "\r\n"):
        content = "".join(name + ends for name in names).encode(encoding)
        assert image_paths(["-"], io.TextIOWrapper(io.BytesIO(content))) == (
            [],
            [f"there is no file {name}." for name in names],
        )


def test_formats_hold_the_same(trained, predict):
    run, photos = trained()
    say = lambda *options: predict(run, photos / "val", *options)[1]  # noqa: E731
    table, lines = say("--top", "2"), [json.loads(line) for line in say("--format", "json", "--top", "9").splitlines()]
    as_csv = list(csv.DictReader(io.StringIO(say("--format", "csv", "--top", "2"))))
    assert len(lines) == len(as_csv) == len(table.splitlines()) == 10
    for line, row, text in zip(lines, as_csv, table.splitlines(), strict=True):
        assert line["path"] == row["path"] == text.split("  ")[0].strip()
        assert line["predicted"] == row["predicted"] == row["class_1"] == line["top"][0]["class"]
        assert float(row["confidence"]) == line["confidence"] == pytest.approx(float(text.split()[2]), abs=1e-4)
        assert sum(one["probability"] for one in line["top"]) == pytest.approx(1, abs=1e-5)
    unsure = say("--threshold", "1").split()
    assert unsure.count("unsure") == 10


def test_what_cannot_be_read_is_reported_and_the_rest_is_done(trained, predict, tmp_path):
    run, photos = trained()
    good, heap = photos / "val" / "ants" / "0.png", tmp_path / "heap"
    heap.mkdir()
    (heap / "cut.png").write_bytes(good.read_bytes()[:300])
    (heap / "empty.jpg").touch()
    (heap / "text.jpg").write_text("no image")
    status, _, errors = predict(run, heap, good, "missing.png", "--out", tmp_path / "found.csv", "--format", "csv")
    assert status == 1
    assert [row["path"] for row in rows(tmp_path / "found.csv")] == [str(good)]
    told = errors.splitlines()
    assert len(told) == 4
    assert all(line.startswith("error: ") for line in told)
    assert all(any(name in line for line in told) for name in ("cut.png", "empty.jpg", "text.jpg", "missing.png"))


def test_a_list_comes_on_standard_input(trained, predict):
    run, photos = trained()
    listed = "".join(f"{path}\n" for path in sorted(photos.rglob("*.png")))
    assert len(predict(run, "-", stdin=listed)[1].splitlines()) == 22


def test_a_list_that_is_empty_or_has_a_zero_byte_is_reported_in_one_line(trained, predict):
    run, _ = trained()
    for listed in ("", "\n\n"):
        assert predict(run, "-", stdin=listed) == (2, "", "error: the list of paths on standard input is empty.\n")
    status, _, errors = predict(run, "-", stdin="a.jpg\nb.jpg\nc.jpg\0")
    assert (status, errors) == (2, "error: there is no file a.jpg\\nb.jpg\\nc.jpg.\n")


@pytest.mark.slow
def test_a_reader_may_hang_up(trained, tmp_path):
    run, photos = trained()
    command = f"{sys.executable} {ROOT / 'scripts/predict.py'} {run} {photos} | head -1"
    done = subprocess.run(command, shell=True, cwd=tmp_path, env=with_nets(), capture_output=True, text=True)
    assert (len(done.stdout.splitlines()), done.stderr) == (1, "")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["nowhere", "x.jpg"], "error: there is no trained model in nowhere; choose the folder of a run"),
        ([".", "x.jpg"], "error: . holds 1 runs; choose one of run."),
        (["run", "photos/val", "--out", "no/folder/x.csv"], "error: no/folder/x.csv cannot be written (No such file"),
        (["photos/val/ants/0.png", "x.jpg"], "error: cannot read the checkpoint photos/val/ants/0.png: it is damaged"),
    ],
)
def test_wrong_usage_is_reported_in_a_sentence(trained, predict, tmp_path, monkeypatch, options, told):
    trained()
    monkeypatch.chdir(tmp_path)
    status, _, errors = predict(*options)
    assert status == 2
    assert errors.startswith(told)
    assert errors.count("\n") == 1


def test_a_gallery_shows_the_least_sure_first_and_escapes_names(tmp_path, browser):
    photo = tmp_path / "<b>&.png"
    Image.new("RGB", (40, 30), "red").save(photo)
    found = [Prediction(str(photo), [("<i>cat", 0.9), ("dog", 0.1)]), Prediction(str(photo), [("dog", 0.6)])]
    found.append(Prediction("bad.png", fault="cannot read the image bad.png: it is cut off."))
    write_gallery(tmp_path / "page.html", "run", found, threshold=0.7)
    page = browser.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    assert page.locator(".card strong").all_inner_texts() == ["unsure", "<i>cat"]
    assert page.evaluate("[...document.querySelectorAll('.card img')].every(image => image.naturalWidth > 0)")
    assert "bad.png" in page.locator(".cautions").inner_text()
    page.close()
