"""Evaluating a trained model on a folder of labelled images, from the folder to the page."""

import json
import os
import runpy
import shutil
import struct
import sys
import zlib

import numpy as np
import pytest
import torch
from conftest import ROOT, rows
from evaluated import CLASSES, by_hand, fill, untrained

from thaw.evaluation.corruptions import CORRUPTIONS
from thaw.evaluation.measures import wilson
from thaw.inference.evaluate import evaluate
from thaw.inference.evaluation_page import table, write_evaluation
from thaw.inference.labelled_folder import read_labelled
from thaw.runs.summary import remove_old_results
from thaw.storage.files import read_rows

SCRIPT = str(ROOT / "scripts" / "evaluate.py")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return untrained(tmp_path_factory.mktemp("run"))


@pytest.fixture
def photos(tmp_path):
    return fill(tmp_path / "photos", CLASSES)


@pytest.fixture
def run_script(monkeypatch, model, capsys):
    """Runs it in this process on `model`: its status, what it says, and what of that on stderr."""
    monkeypatch.setattr("thaw.inference.trained_model.load_model", lambda run: model)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["evaluate.py", "RUN", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(SCRIPT, run_name="__main__")
        return ended.value.code, *capsys.readouterr()

    return run


def test_classes_are_those_of_the_folders_names_whatever_their_order(model, photos):
    folder = read_labelled(photos, ["ü猫", "a", "none of it", '<b>&"x'])
    named = {(os.path.basename(os.path.dirname(path)), folder.classes[label]) for path, label in folder.samples}
    assert named == {(name, name) for name in CLASSES}
    assert folder.missing == ["none of it"]


def test_what_is_hidden_or_no_image_is_not_read(photos):
    shutil.copytree(photos / "a", photos / ".thumbnails")
    shutil.copytree(photos / "a", photos / "a" / ".old")
    shutil.copy(photos / "a" / "0.png", photos / "a" / "._0.png")
    shutil.copytree(photos / "a", photos / "a" / "deeper")
    (photos / "a" / "notes.txt").write_text("nothing")
    shutil.copy(photos / "a" / "0.png", photos / "loose.png")
    os.mkfifo(photos / "a" / "pipe.png")
    folder = read_labelled(photos, CLASSES)
    assert len(folder.samples) == 3 * 4 + 4
    assert folder.ignored == 3


@pytest.mark.parametrize("strange", ["cow", ".", "file", "gone", "split", "empty"])
def test_a_folder_that_does_not_fit_is_refused_in_one_sentence(strange, run_script, photos, tmp_path):
    root = tmp_path / "other"
    if strange == "file":
        root.write_text("")
    elif strange == "cow":
        fill(root, ["a", "cow"])
    elif strange == "split":
        fill(root / "train", CLASSES), fill(root / "val", CLASSES)
    elif strange != "gone":
        (root / "a" / strange).mkdir(parents=True)
    status, out, err = run_script(root, "--out", tmp_path / "out")
    assert status == 2 and out == "" and not (tmp_path / "out").exists()
    assert err.startswith("error: ") and err.count("\n") == 1 and str(root) in err
    assert {"cow": "'cow'", "split": f"{root / 'train'} or {root / 'val'}"}.get(strange, "'ü猫'") in err


def test_facts_say_what_the_model_answers(model, photos):
    done = evaluate(model, read_labelled(photos, CLASSES), top=5)
    facts = json.loads(json.dumps(done.facts))
    crops = [model.read(path) for path in done.predictions.paths]
    logits = model.logits(torch.stack(crops))
    labels = torch.from_numpy(done.predictions.labels)
    assert (done.predictions.logits == logits.numpy()).all()
    right = int((logits.argmax(1) == labels).sum())
    assert facts["acc"] == {"value": right / 12, "ci95": wilson(right, 12)}
    losses = -(logits / 0.5).log_softmax(1)[torch.arange(12), labels]
    assert [one["loss"] for one in facts["top_losses"]] == pytest.approx(sorted(losses.tolist())[::-1][:5], rel=1e-4)
    paths = [done.predictions.paths[index] for index in losses.argsort(descending=True)[:5]]
    assert [str(photos / one["path"]) for one in facts["top_losses"]] == paths


def test_each_corruption_is_held_against_the_same_images_without(model, photos):
    done = evaluate(model, read_labelled(photos, CLASSES), top=0)
    clean = done.predictions.right
    assert len(done.facts["robustness"]) == len(CORRUPTIONS) == 12
    for corruption, row in zip(CORRUPTIONS, done.facts["robustness"], strict=True):
        crops = [corruption(model.read(path), index) for index, path in enumerate(done.predictions.paths)]
        logits = model.logits(torch.stack(crops))
        right = logits.argmax(1).numpy() == done.predictions.labels
        assert row["acc"]["value"] == pytest.approx(right.mean())
        assert row["change"]["value"] == pytest.approx((right.astype(float) - clean).mean())
        assert row["ece"] == pytest.approx(by_hand(done.predictions.labels, logits.numpy(), 0.5)[3], abs=1e-5)
        low, high = row["change"]["ci95"]
        assert low <= row["change"]["value"] <= high and 0 <= row["p"] <= 1
    assert any(row["change"]["value"] for row in done.facts["robustness"])


def test_the_batch_size_decides_nothing_but_time(model, photos, monkeypatch):
    whole = evaluate(model, read_labelled(photos, CLASSES))
    monkeypatch.setattr("thaw.inference.folder_predictions.inference_batch_size", lambda size: 5)
    parts = evaluate(model, read_labelled(photos, CLASSES))
    assert np.allclose(whole.predictions.logits, parts.predictions.logits, atol=1e-5)
    assert [row["acc"] for row in parts.facts["robustness"]] == [row["acc"] for row in whole.facts["robustness"]]


def png_of(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_broken_images_are_reported_one_by_one_and_all_others_evaluated(run_script, photos, tmp_path):
    whole = (photos / "a" / "0.png").read_bytes()
    broken = {
        "truncated.png": whole[:100],
        "empty.jpg": b"",
        "text.jpg": b"no image",
        "bomb.png": png_of(60000, 60000),
        "large.png": png_of(10000, 10000),
        "größe.jpg": b"\xff\xd8\xff",
    }
    for name, content in broken.items():
        (photos / "a" / name).write_bytes(content)
    (photos / "a" / "dangling.png").symlink_to("nowhere.png")
    odd = os.fsencode(photos / "a") + b"/\xff.png"
    with open(odd, "wb") as file:
        file.write(whole)
    status, out, err = run_script(photos, "--out", tmp_path / "out")
    assert status == 1 and "13 images of 3 classes" in out
    told = err.splitlines()
    assert len(told) == len(broken) + 1 and all(line.startswith("warning: cannot read the image ") for line in told)
    assert all(any(name in line for line in told) for name in (*broken, "dangling.png"))
    paths = [row["path"] for row in read_rows(tmp_path / "out" / "predictions.csv")]
    assert len(paths) == 13 and os.fsdecode(b"a/\xff.png") in paths, "a name of other bytes than UTF-8 is no fault"
    assert len(json.loads((tmp_path / "out" / "evaluation.json").read_text())["unreadable"]) == 7


def test_where_no_image_can_be_read_a_sentence_says_so(run_script, tmp_path):
    (tmp_path / "photos" / "a").mkdir(parents=True)
    (tmp_path / "photos" / "a" / "1.jpg").write_bytes(b"")
    status, out, err = run_script(tmp_path / "photos", "--out", tmp_path / "out")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "none of the" not in err and "cannot read" in err and "1.jpg" in err


def test_a_class_without_images_is_reported_and_left_out_of_averages(run_script, tmp_path):
    fill(tmp_path / "photos", ["a", "ü猫"])
    status, out, err = run_script(tmp_path / "photos", "--out", tmp_path / "out", "--no-robustness")
    assert (status, err) == (0, "")
    assert 'no images of: <b>&"x; macro averages are over the other classes' in out
    facts = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    recalls = [row["recall"]["value"] for row in facts["per_class"] if row["recall"]]
    assert len(recalls) == 2 and facts["macro_acc"]["value"] == pytest.approx(np.mean(recalls))
    assert facts["robustness"] is None


def test_files_go_into_the_runs_folder_unless_another_is_named(run_script, model, photos):
    status, out, _ = run_script(photos, "--no-robustness", "--top", "0")
    folder = model.source.parent.parent / "evaluation" / "photos"
    assert status == 0 and out.endswith(f"page     {folder / 'evaluation.html'}\n")
    assert sorted(os.listdir(folder)) == ["evaluation.html", "evaluation.json", "predictions.csv"]


def test_a_new_run_removes_what_was_said_of_the_old(tmp_path):
    (tmp_path / "evaluation" / "photos").mkdir(parents=True)
    assert remove_old_results(tmp_path)
    assert not (tmp_path / "evaluation").exists()


def test_a_folder_that_cannot_be_written_to_is_reported_before_anything_is_computed(run_script, photos, monkeypatch):
    monkeypatch.setattr("thaw.inference.evaluate.predict_folder", None)
    status, out, err = run_script(photos, "--out", photos / "a" / "0.png" / "out")
    assert (status, out) == (2, "") and err.count("\n") == 1 and "choose another folder with --out" in err


def test_ctrl_c_ends_it_with_130_and_no_half_written_file(run_script, photos, tmp_path, monkeypatch):
    def stopped(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr("thaw.inference.evaluate.predict_folder", stopped)
    assert run_script(photos, "--out", tmp_path / "out") == (130, "", "")
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize("count", ["-1", "many", "1.5"])
def test_how_many_images_are_pictured_must_be_a_number(count, run_script, photos):
    status, _, err = run_script(photos, f"--top={count}")
    assert status == 2 and f"'{count}' must be a whole number of at least 0" in err


def test_a_runs_own_validation_images_get_the_runs_own_answers(tiny_run, image_folder, without_pictures, tmp_path):
    from thaw.inference.trained_model import load_model
    from train import main

    root = image_folder(val=7)
    main(tiny_run("strategy=fine_tune", root=root))
    done = evaluate(load_model(tmp_path / "run"), read_labelled(root / "val", ["ants", "bees"]))
    write_evaluation(tmp_path, done)
    theirs = rows(tmp_path / "run" / "predictions.csv")
    assert [{**row, "path": f"val/{row['path']}"} for row in rows(tmp_path / "predictions.csv")] == theirs
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert done.facts["acc"] == {"value": summary["val"]["acc"], "ci95": summary["val"]["acc_ci95"]}
    assert done.facts["ece_uncalibrated"]["value"] == pytest.approx(summary["val"]["ece"], abs=1e-6)
    for name in ("macro_acc", "macro_f1"):
        assert done.facts[name]["value"] == pytest.approx(summary["val"][name])


def test_the_table_for_a_terminal_has_every_number(model, photos):
    facts = evaluate(model, read_labelled(photos, CLASSES)).facts
    told = table(facts)
    for name in ("accuracy", "macro F1", "ECE, uncalibrated", *CLASSES, "quality 15", f"{facts['loss']['value']:.4f}"):
        assert name in told
