"""Images with several classes: the same images go through training, comparison, prediction, evaluation and export."""

import csv
import json

import numpy as np
import pytest
import torch
from conftest import rows
from PIL import Image
from served import served

from thaw.comparison.comparison_page import write_comparison
from thaw.data.label_sets import LabelSets
from thaw.errors import UserError
from thaw.evaluation.average_precision import average_precision
from thaw.evaluation.predictions_table import read_label_scores
from thaw.inference.labelled_folder import read_labelled_table
from thaw.inference.predict import NONE, predict
from thaw.inference.trained_model import load_model
from thaw.storage.checkpoints import read_checkpoint
from thaw.training.objectives import OneClass, SeveralClasses, objective
from train import main

NAMES = ["blue", "green", "red"]


@pytest.fixture
def photos(tmp_path):
    """A folder of 60 noisy images, each lit in the colours that its labels name, and its table."""
    root, random = tmp_path / "photos", np.random.default_rng(0)
    root.mkdir()
    members, lines = random.random((60, 3)) < 0.5, [["path", "label", "split"]]
    for number, row in enumerate(members):
        pixels = random.integers(0, 90, (24, 24, 3)) + 120 * row[::-1]
        Image.fromarray(pixels.astype(np.uint8)).save(root / f"{number:02d}.png")
        labels = "|".join(name for name, chosen in zip(NAMES, row, strict=True) if chosen)
        lines.append([f"{number:02d}.png", labels, "train" if number < 36 else "val"])
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    return root


@pytest.fixture
def train(tiny_run, photos, without_pictures, tmp_path):
    def run(*options, folder="run"):
        main(tiny_run("data.table=labels.csv", *options, root=photos, folder=folder))
        return tmp_path / folder

    return run


LEARNS = "strategy=fine_tune", "strategy.lr=0.05", "trainer.max_epochs=12"


def test_a_run_learns_its_summary_is_its_predictions_and_the_checkpoint_predicts_them(train, photos):
    run = train(*LEARNS, "trainer.precision=32")
    summary = json.loads((run / "summary.json").read_text())
    paths, labels, scores = read_label_scores(run / "predictions.csv", NAMES)
    assert summary["metric"] == "map" and summary["classes"] == NAMES
    assert summary["val"]["map"] == pytest.approx(average_precision(labels, scores).mean(), abs=1e-9)
    assert summary["val"]["map"] > 0.9 and summary["val"]["n"] == len(paths) == 24
    low, high = summary["val"]["map_ci95"]
    assert low <= summary["val"]["map"] <= high
    best = max(rows(run / "metrics.csv"), key=lambda row: (float(row["val/map"]), -float(row["val/loss"])))
    assert summary["best_epoch"] == int(best["epoch"])
    assert float(best["val/map"]) == pytest.approx(summary["val"]["map"], abs=1e-5)
    described = read_checkpoint(run / "checkpoints" / "best.ckpt")["thaw"]
    assert described["several"] and len(described["temperature"]) == len(described["thresholds"]) == 3
    table = {row["path"]: row for row in rows(run / "predictions.csv")}
    for one in predict(load_model(run, exact=True), [photos / path for path in paths], top=3):
        row = table[one.path.rpartition("/")[2]]
        assert one.named(0) == row["predicted"] or (one.named(0) == NONE and not row["predicted"])
        known = dict(zip(NAMES, described["temperature"], strict=True))
        for name, probability in one.top:  # the table has probabilities without temperatures
            logit = np.log(float(row[f"p_{name}"]) / (1 - float(row[f"p_{name}"])))
            assert probability == pytest.approx(1 / (1 + np.exp(-logit / known[name])), abs=1e-4)


@pytest.mark.parametrize("strategy", ["probe", "feature_extractor", "lp_ft"])
def test_heads_on_features_learn_as_on_images(train, strategy):
    cached = train(f"strategy={strategy}", "trainer.max_epochs=4")
    assert json.loads((cached / "summary.json").read_text())["val"]["map"] > 0.6


def test_mixed_images_train_too(train):
    run = train(*LEARNS, "mix=mixup")
    assert json.loads((run / "summary.json").read_text())["val"]["map"] > 0.8


def test_a_comparison_ranks_by_map_and_its_page_says_so(train, tmp_path):
    good, bad = train(*LEARNS), train("strategy=fine_tune", "strategy.lr=0.00001", folder="bad")
    facts = write_comparison(tmp_path, [good, bad])
    first, second = facts["candidates"]
    assert facts["metric"] == "map" and first["map"] > second["map"]
    assert second["verdict"] == "worse" and "mean average precision" in facts["advice"][0]
    labels = [row["label"] for row in rows(good / "predictions.csv")]
    assert facts["images_by_class"] == {name: sum(name in label for label in labels) for name in NAMES}
    assert set(first["map_by_class"]) == set(NAMES)
    assert float(rows(tmp_path / "comparison.csv")[0]["map"]) == first["map"]
    page = (tmp_path / "report.html").read_text()
    assert "Average precision by class" in page and "Confusion" not in page


def test_evaluate_needs_a_table_and_finds_the_summarys_numbers(train, photos, script, tmp_path):
    run = train(*LEARNS)
    assert script("evaluate", run, photos)[2].startswith(f"error: images of {run} can have several classes")
    assert (
        "labels.csv has splits: choose --split train or val"
        in script("evaluate", run, photos, "--table", "labels.csv")[2]
    )
    status, shown, errors = script(
        "evaluate", run, photos, "--table", "labels.csv", "--split", "val", "--out", tmp_path / "out"
    )
    assert (status, errors) == (0, "") and "mAP" in shown
    facts = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    summary = json.loads((run / "summary.json").read_text())
    assert facts["map"]["value"] == pytest.approx(summary["val"]["map"], abs=1e-6)
    assert facts["map"]["ci95"] == pytest.approx(summary["val"]["map_ci95"], abs=1e-6)
    assert [row["class"] for row in facts["per_class"]] == NAMES
    assert "Images with the highest loss" in (tmp_path / "out" / "evaluation.html").read_text()


def test_a_table_that_does_not_fit_the_model_is_refused(train, photos):
    model = load_model(train(*LEARNS))
    (photos / "other.csv").write_text("path,label\n00.png,red|pink\n01.png,red\n")
    with pytest.raises(UserError, match=r"'pink' in --table .*other.csv is not a class of the model"):
        read_labelled_table(photos, photos / "other.csv", None, model)
    (photos / "other.csv").write_text("path,label\n00.png,red\n01.png,red\n")
    found = read_labelled_table(photos, photos / "other.csv", None, model)
    assert found.missing == ["blue", "green"] and found.label_sets.matrix([0, 1])[:, 2].all()
    with pytest.raises(UserError, match=r"--split test has no image in .*: leave --split out"):
        read_labelled_table(photos, photos / "other.csv", "test", model)


@pytest.mark.parametrize("kind", ["onnx", "torch", "safetensors"])
def test_an_export_gives_the_checkpoints_probabilities_and_names_its_thresholds(train, script, tmp_path, kind):
    if kind == "onnx":
        pytest.importorskip("onnxscript", reason="needs pip install thaw[export]")
    run = train("model._target_=thaw.models.backbones.build_net", "model.name=squeezenet1_1", "data.image_size=32")
    status, _, errors = script("export", run, tmp_path / "model", "--format", kind)
    assert (status, errors) == (0, "")
    record = tmp_path / "model" / "export.json" if kind == "safetensors" else tmp_path / "model.json"
    facts = json.loads(record.read_text())
    model = load_model(run)
    assert facts["several_classes"] and facts["thresholds"] == pytest.approx(model.thresholds.tolist())
    assert facts["temperature"] == pytest.approx(model.temperature.tolist())


def test_the_server_names_all_classes_of_an_image(train, photos):
    run = train(*LEARNS)
    model = load_model(run)
    with served(model) as client:
        for path in sorted(photos.glob("4*.png")):
            answer = client.post("/predict?top=3", content=path.read_bytes()).json()
            (one,) = predict(model, path)
            assert answer["classes"] == list(one.decided)
            assert (answer["predicted"], answer["confidence"]) == (
                one.named(0),
                pytest.approx(one.confidence, abs=0.01),
            )


def test_predicted_classes_come_first_with_the_probability_of_the_least_certain_decision(train, photos):
    model = load_model(train(*LEARNS, "trainer.precision=32"), exact=True)
    for one in predict(model, sorted(photos.glob("*.png")), top=2):
        known = dict(predict(model, one.path, top=3)[0].top)
        assert {name for name, _ in one.top[: len(one.decided)]} == set(one.decided)
        assert len(one.top) == max(2, len(one.decided))
        sides = [p if name in one.decided else 1 - p for name, p in known.items()]
        assert one.confidence == pytest.approx(min(sides))


def test_the_map_of_folds_is_that_of_each_fold(train, tmp_path, photos):
    text = (photos / "labels.csv").read_text().replace(",train", "").replace(",val", "").replace(",split", "")
    (photos / "labels.csv").write_text(text)
    runs = [train(*LEARNS, "data.folds=2", f"data.fold={n}", folder=f"fold{n}") for n in range(2)]
    (candidate,) = write_comparison(tmp_path, runs)["candidates"]
    values = [json.loads((run / "summary.json").read_text())["val"] for run in runs]
    mean = sum(one["map"] * one["n"] for one in values) / sum(one["n"] for one in values)
    assert candidate["map"] == pytest.approx(mean)


def test_a_table_without_a_column_of_the_model_or_without_labels_is_refused(train, photos):
    model = load_model(train(*LEARNS))
    (photos / "other.csv").write_text("path,red,blue\n00.png,1,0\n01.png,0,1\n")
    with pytest.raises(UserError, match=r"has no column for 'green', classes of the model"):
        read_labelled_table(photos, photos / "other.csv", None, model)
    (photos / "other.csv").write_text("path,red,blue,green\n00.png,0,0,0\n01.png,0,0,0\n")
    with pytest.raises(UserError, match=r"no image in --table .* has a label"):
        read_labelled_table(photos, photos / "other.csv", None, model)


def test_what_needs_one_class_per_image_says_so(train, tiny_run, photos, script, tmp_path):
    run = train("trainer.max_epochs=1")
    assert "--threshold 0.5 is for images with one class" in script("predict", run, photos, "--threshold", "0.5")[2]
    assert "label_next chooses among images with one class" in script("label_next", run, photos)[2]
    assert "because its images can have several classes" in script("predict", run, photos, "--unknown")[2]
    with pytest.raises(SystemExit) as ended:
        main(tiny_run("data.table=labels.csv", "robustness=true", root=photos, folder="other"))
    assert ended.value.code == 2 and not (tmp_path / "other" / "metrics.csv").exists()


def test_the_loss_is_binary_cross_entropy_summed_over_the_classes():
    several = SeveralClasses(torch.tensor([[1, 0, 1], [0, 0, 0]], dtype=torch.bool))
    logits, labels = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, -3.0]]), torch.tensor([0, 1])
    p = logits.sigmoid()
    expected = [-(p[0, 0].log() + (1 - p[0, 1]).log() + p[0, 2].log()).item(), -(1 - p[1]).log().sum().item()]
    assert several.losses(logits, labels).tolist() == pytest.approx(expected)
    loss = several.training_loss(torch.nn.functional.cross_entropy)(logits, several.targets(labels))
    assert loss.item() == pytest.approx(np.mean(expected))
    assert several.training_loss(torch.nn.functional.mse_loss) is torch.nn.functional.mse_loss
    assert isinstance(objective(3, LabelSets(np.eye(3, dtype=bool))), SeveralClasses)
    assert isinstance(objective(3, LabelSets()), OneClass)
