"""A model says what it does not know: by sets of classes, and of images that belong to none of them."""

import csv
import io
import json
from functools import partial

import numpy as np
import pytest
import torch
from conftest import rows
from PIL import Image

from thaw.inference.predict import NONE, predict
from thaw.inference.trained_model import load_model
from thaw.storage.checkpoints import read_checkpoint
from thaw.training.checkpoint_io import AtomicCheckpointIO
from train import main

needs_onnx = pytest.mark.skipif(
    any(__import__("importlib.util").util.find_spec(name) is None for name in ("onnx", "onnxruntime", "onnxscript")),
    reason="needs pip install thaw[export]",
)


@pytest.fixture
def trained(tiny_run, image_folder, tmp_path, without_pictures):
    """A run with enough validation images for distances, which differ in brightness, and its photographs."""
    root, random = image_folder(val=20), np.random.default_rng(0)
    for path in sorted(root.rglob("*.png")):
        pixels = np.asarray(Image.open(path)) * random.uniform(0.2, 1, 3)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    main(tiny_run("strategy.lr=0.1", root=root))
    return tmp_path / "run", root


@pytest.fixture
def foreign(tmp_path):
    """Images that are black and white, where those of the classes are red or green, and a file that is none."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(8):
        pixels = 255 * random.integers(0, 2, (10, 12, 1), dtype=np.uint8).repeat(3, 2)
        Image.fromarray(pixels).resize((48, 40), Image.Resampling.NEAREST).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def run_predict(script):
    return partial(script, "predict")


@pytest.fixture
def older(trained):
    """The checkpoint as if an older version had written it."""
    checkpoint = read_checkpoint(trained[0] / "checkpoints" / "best.ckpt")
    for entry in ("sets", "distance"):
        del checkpoint["thaw"][entry]
    path = trained[0] / "checkpoints" / "older.ckpt"
    AtomicCheckpointIO().save_checkpoint(checkpoint, path)
    return path


def test_formats_hold_the_same_sets_and_distances(trained, foreign, run_predict):
    run, photos = trained
    say = lambda *options: run_predict(run, photos / "val", foreign, "--sets", "0.95", "--unknown", *options)  # noqa: E731
    lines = [json.loads(line) for line in say("--format", "json")[1].splitlines()]
    table, as_csv = say()[1].splitlines(), list(csv.DictReader(io.StringIO(say("--format", "csv", "--top", "2")[1])))
    assert len(lines) == len(table) == len(as_csv) == 48
    for line, text, row in zip(lines, table, as_csv, strict=True):
        assert line["predicted"] == row["predicted"] == (NONE if line["unknown"] else line["top"][0]["class"])
        assert line["predicted"] in text
        assert line["unknown"] == (float(row["distance"]) > 1) == (line["distance"] > 1)
        assert f"distance {line['distance']:.2f}" in text
        assert "{" + ", ".join(line["set"]) + "}" in text
        assert row["set"] == "|".join(line["set"])
        assert row["class_1"] == line["top"][0]["class"]
        assert list(row) == ["path", "predicted", "confidence", "set", "distance"] + [
            f"{column}_{n}" for n in (1, 2) for column in ("class", "probability")
        ]
    unknown = np.array([line["unknown"] for line in lines])
    assert unknown[:40].mean() <= 0.05
    assert unknown[40:].all()


def test_without_being_asked_nothing_about_them_is_written(trained, run_predict):
    run, photos = trained
    line = json.loads(run_predict(run, photos / "val", "--format", "json")[1].splitlines()[0])
    assert list(line) == ["path", "predicted", "confidence", "top"]
    (found,) = predict(load_model(run), photos / "val" / "ants" / "0.png")
    assert (found.within, found.distance, found.unknown) == (None, None, False)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_checkpoints_limits_are_those_of_its_validation_predictions(trained, monkeypatch, precision):
    monkeypatch.setattr("thaw.inference.trained_model.best_precision", lambda device: precision)
    run, photos = trained
    model, said = load_model(run), rows(run / "predictions.csv")
    paths = [str(photos / row["path"]) for row in said]
    found = predict(model, paths, coverage=0.9, unknown=True)
    right = [row["label"] in one.within for row, one in zip(said, found, strict=True)]
    assert np.mean(right) >= 0.85
    assert sum(one.unknown for one in found) <= 2
    exact = predict(load_model(run, exact=True), paths, unknown=True)
    assert [one.distance for one in found] == pytest.approx([one.distance for one in exact], rel=0.2)


def test_an_older_checkpoint_predicts_as_before_and_names_what_it_lacks(older, trained, run_predict):
    run, photos = trained
    status, told, _ = run_predict(older, photos / "val")
    assert (status, told) == (0, run_predict(run, photos / "val")[1])
    for option, lacking in (("--sets", "no prediction sets"), ("--unknown", "cannot recognise unknown images")):
        status, told, errors = run_predict(older, photos / "val", option)
        assert (status, told) == (2, "")
        assert lacking in errors and "an older version of Thaw trained it: train it again" in errors
        assert len(errors.splitlines()) == 1


def test_a_run_with_few_validation_images_says_why_it_knows_no_unknown_ones(tiny_run, tmp_path, run_predict):
    main(tiny_run())
    status, _, errors = run_predict(tmp_path / "run", tmp_path / "photos" / "val", "--unknown")
    assert status == 2
    assert "only 10 validation images, and at least 19 are needed" in errors


@pytest.mark.parametrize("value", ["0", "1", "1.5", "nine", "-1"])
def test_a_coverage_that_is_none_is_refused(trained, run_predict, value):
    run, photos = trained
    status, _, errors = run_predict(run, photos / "val", f"--sets={value}")
    assert status == 2
    assert value in errors and "above 0 and below 1" in errors
    if value in "01":
        with pytest.raises(ValueError, match="above 0 and below 1"):
            predict(load_model(run), photos / "val" / "ants" / "0.png", coverage=int(value))


def test_an_evaluation_measures_sets_and_foreign_images(trained, foreign, script, tmp_path):
    run, photos = trained
    (foreign / "bad.png").write_bytes(b"no image")
    options = ("--foreign", foreign, "--coverage", "0.8", "--no-robustness", "--out", tmp_path / "found")
    status, told, errors = script("evaluate", run, photos / "val", *options)
    assert status == 1 and "bad.png" in errors
    facts = json.loads((tmp_path / "found" / "evaluation.json").read_text())
    sets, distance = facts["sets"], facts["distance"]
    predicted = predict(load_model(run), sorted(map(str, photos.glob("val/*/*.png"))), coverage=0.8, unknown=True)
    labels = [one.path.split("/")[-2] for one in predicted]
    covered = np.array([label in one.within for label, one in zip(labels, predicted, strict=True)])
    assert sets["covered"]["value"] == pytest.approx(covered.mean())
    assert sets["mean_size"] == pytest.approx(np.mean([len(one.within) for one in predicted]))
    assert sum(sets["images_by_size"].values()) == 40
    ants = np.array(labels) == "ants"
    assert sets["per_class"][0]["covered"]["value"] == pytest.approx(covered[ants].mean())
    assert distance["foreign"]["images"] == 8
    assert distance["foreign"]["auroc"]["value"] == distance["foreign"]["unknown"]["value"] == 1
    nearest = [row["distance"] for row in distance["foreign"]["nearest"]]
    assert nearest == sorted(nearest) and len(nearest) == 8
    away = {one.path.split("val/")[1]: one.distance for one in predicted if one.unknown}
    assert {row["path"]: row["distance"] for row in distance["farthest"]} == pytest.approx(away, rel=1e-4)
    assert "AUROC of the distance" in told and "asked: 0.8" in told
    page = (tmp_path / "found" / "evaluation.html").read_text()
    assert "What the model does not know" in page and page.count("none of these") > 8


def test_a_class_with_the_separator_of_sets_is_refused_in_csv(tiny_run, image_folder, tmp_path, run_predict):
    main(tiny_run(root=image_folder(["a|b", "c"])))
    run, images = tmp_path / "run", tmp_path / "photos" / "val"
    status, _, errors = run_predict(run, images, "--sets", "--format", "csv")
    assert status == 2 and "'a|b'" in errors and "--format json" in errors
    assert run_predict(run, images, "--sets", "--format", "json")[0] == 0


def test_images_that_look_alike_to_the_network_have_no_distances(tiny_run, image_folder, tmp_path, run_predict):
    root, random = image_folder(val=20), np.random.default_rng(0)
    for path in root.rglob("*.png"):
        Image.fromarray(random.integers(120, 123, (40, 49, 3), dtype=np.uint8)).save(path)
    main(tiny_run(root=root))
    status, _, errors = run_predict(tmp_path / "run", tmp_path / "photos" / "val", "--unknown")
    assert status == 2 and "look alike" in errors


@pytest.mark.parametrize("fault", ["gone", "empty", "file", "itself"])
def test_foreign_images_that_are_none_are_refused_before_any_work(trained, script, tmp_path, fault):
    run, photos = trained
    place = photos / "val" if fault == "itself" else tmp_path / fault
    if fault == "empty":
        place.mkdir()
    elif fault == "file":
        place.write_text("")
    status, _, errors = script("evaluate", run, photos / "val", "--foreign", place, "--out", tmp_path / "out")
    assert status == 2 and str(place) in errors
    assert not (tmp_path / "out").exists()


def test_an_older_checkpoint_is_evaluated_without_limits(older, trained, foreign, script, tmp_path):
    options = ("--no-robustness", "--out", tmp_path / "found")
    status, told, _ = script("evaluate", older, trained[1] / "val", *options)
    facts = json.loads((tmp_path / "found" / "evaluation.json").read_text())
    assert (status, facts["sets"], facts["distance"]) == (0, None, None)
    assert "none of these" not in told
    status, _, errors = script("evaluate", older, trained[1] / "val", "--foreign", foreign, *options)
    assert status == 2 and "older version" in errors


@needs_onnx
@pytest.mark.slow
def test_onnx_runtime_gives_the_sets_and_verdicts_of_predict_on_every_image(trained, foreign, script, tmp_path):
    import onnxruntime

    run, photos = trained
    status, _, errors = script("export", run, tmp_path / "model.onnx", "--format", "onnx")
    assert (status, errors) == (0, "")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["probabilities", "in_set", "distance"]
    assert session.get_modelmeta().custom_metadata_map["coverage"] == "0.9"
    paths, model = sorted(map(str, [*photos.glob("val/*/*.png"), *foreign.iterdir()])), load_model(run, exact=True)
    images = torch.stack([model.read(path) for path in paths]).permute(0, 2, 3, 1).contiguous().numpy()
    _, in_set, distance = session.run(None, {"images": images})
    for one, classes, away in zip(predict(model, paths, coverage=0.9, unknown=True), in_set, distance, strict=True):
        assert {model.classes[place] for place in np.flatnonzero(classes)} == set(one.within)
        assert bool(away > 1) == one.unknown
        assert away == pytest.approx(one.distance, rel=1e-3)


def test_a_compiled_network_whose_hooks_are_skipped_says_so():
    from thaw.evaluation.model_limits import fitted_limits
    from thaw.evaluation.predictions import Predictions

    found = Predictions((), np.array([0, 1] * 10), np.eye(2, dtype=np.float32)[[0, 1] * 10], ["a", "b"])
    limits = fitted_limits(found, None, torch.arange(0))
    assert "compiled" in limits.distance
