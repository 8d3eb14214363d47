"""Names that are no UTF-8, or look like others."""

import csv
import io
import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from thaw.data.class_names import confusable_names
from thaw.data.endings import EXTENSIONS, is_image, what_to_install
from thaw.data.layout import aligned_classes
from thaw.errors import UserError
from thaw.evaluation.predictions import Predictions
from thaw.evaluation.predictions_table import write_predictions
from thaw.features.head_inputs import HeadInputs
from thaw.inference.image_paths import image_paths
from thaw.inference.labelled_folder import read_labelled
from thaw.inference.predict import Prediction
from thaw.inference.prediction_tables import FORMATS, Columns
from thaw.pages.html import render
from thaw.pages.text import decoded
from thaw.report import figures
from thaw.report.tensorboard_record import TensorBoardRecord
from thaw.runs.summary import read_summary, write_summary
from thaw.storage.files import as_json, read_rows, whole_file
from train import main

LATIN = os.fsdecode(b"caf\xe9")
SEEN = "caf\N{REPLACEMENT CHARACTER}"


def test_a_name_is_shown_with_a_replacement_for_what_is_no_character():
    assert [*map(decoded, (LATIN, "猫", "plain", "\ud800x"))] == [SEEN, "猫", "plain", "?x"]


def test_bytes_go_into_tables_and_come_out_as_they_were(tmp_path):
    images = [str(tmp_path / LATIN / f"{LATIN}.jpg"), str(tmp_path / "dog" / "1.jpg")]
    evaluation = Predictions(images, np.array([0, 1]), np.array([[2.0, 0.0], [0.0, 1.0]]), [LATIN, "dog"])
    write_predictions(tmp_path / "predictions.csv", evaluation, tmp_path)
    assert b"caf\xe9/caf\xe9.jpg,caf\xe9,caf\xe9," in (tmp_path / "predictions.csv").read_bytes()
    assert read_rows(tmp_path / "predictions.csv")[0]["path"] == f"{LATIN}/{LATIN}.jpg"


def test_bytes_in_json_are_escaped_and_come_out_as_they_were(tmp_path):
    write_summary(tmp_path, {"classes": [LATIN, "猫"]})
    assert (tmp_path / "summary.json").read_text("utf-8").count("猫") == 1
    assert read_summary(tmp_path) == {"classes": [LATIN, "猫"]}
    assert json.loads(as_json({LATIN: "\\" + LATIN})) == {LATIN: "\\" + LATIN}


@pytest.mark.parametrize("form", FORMATS)
def test_predictions_are_written_whatever_bytes_names_have(tmp_path, form):
    with whole_file(tmp_path / "out") as file:
        FORMATS[form](file, [LATIN], [LATIN], Columns())(Prediction(LATIN, [(LATIN, 0.5)]))
    content = (tmp_path / "out").read_bytes()
    if form == "csv":
        assert next(csv.DictReader(io.StringIO(os.fsdecode(content))))["path"] == LATIN
    elif form == "json":
        assert json.loads(content)["path"] == LATIN
    else:
        assert content.decode().split()[:2] == [SEEN, SEEN]


def test_figures_and_pages_show_bytes_as_replacements(tmp_path):
    evaluation = Predictions(["a", "b"], np.array([0, 1]), np.eye(2), [LATIN, "dog"])
    images = [(torch.zeros(3, 8, 8, dtype=torch.uint8), 0)] * 2
    for figure in (figures.confusion_matrix(evaluation), figures.predictions(images, evaluation)):
        texts = [text.get_text() for axes in figure.axes for text in (*axes.texts, *axes.get_xticklabels())]
        assert any(SEEN in text for text in texts)
    values = {"model": LATIN, "count": 0, "counts": [], "faults": [LATIN], "more": 0, "shown": []}
    page = render("gallery.html.jinja", **values)
    assert SEEN in page and page.encode()


def test_the_projector_gets_bytes_as_replacements(tmp_path, monkeypatch):
    kept = SimpleNamespace(add_embedding=lambda points, metadata, **rest: found.extend(metadata), flush=lambda: None)
    evaluation = Predictions([str(tmp_path / LATIN)], np.array([0]), np.eye(2)[:1], [LATIN, "dog"])
    inputs, found = HeadInputs(images=1), []
    inputs.keep(torch.ones(1, 2))
    TensorBoardRecord(SimpleNamespace(experiment=kept)).embedding(inputs, evaluation, tmp_path, 0)
    assert found == [[SEEN, SEEN, SEEN]]


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [
        ("caf\u00e9", "cafe\u0301", "Unicode NFC or NFD"),
        ("cat", "cat ", "spaces"),
        ("big cat", "big\u00a0cat", "spaces"),
        ("cat", "c\u200bat", "cannot be seen"),
    ],
)
def test_classes_that_look_the_same_are_refused(tmp_path, one, other, difference):
    (sentence,) = confusable_names(["dog", one, other])
    assert difference in sentence and ascii(other) in sentence
    for split, names in (("train", [one, "dog"]), ("val", [other, "dog"])):
        for name in names:
            (tmp_path / split / name).mkdir(parents=True)
    with pytest.raises(UserError, match=f"train and val must have the same class folders.*{difference}"):
        aligned_classes(tmp_path / "train", tmp_path / "val")
    (tmp_path / "val" / "dog" / "1.jpg").touch()
    with pytest.raises(UserError, match=f"is not a class of the model. Its classes are .*{difference}"):
        read_labelled(tmp_path / "val", [one, "dog"])
    for split, name in (("train", other), ("val", one)):
        (tmp_path / split / name).mkdir()
    with pytest.raises(UserError, match=f"two classes in .*train have confusable names.*{difference}"):
        aligned_classes(tmp_path / "train", tmp_path / "val")


def test_names_that_differ_visibly_are_no_look_alikes():
    assert list(confusable_names(["cat", "Cat", "cats", "katze", LATIN, "café", "猫"])) == []


@pytest.mark.parametrize(
    "content",
    [
        "caf\u00e9.jpg\n2.jpg\n".encode("utf-8-sig"),
        "caf\u00e9.jpg\r\n2.jpg\r\n".encode("utf-16"),
        "caf\u00e9.jpg\n\n2.jpg".encode(),
        "caf\u00e9.jpg\0002.jpg\0".encode(),
    ],
)
def test_lists_are_read_as_windows_and_find_write_them(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    for name in ("caf\u00e9.jpg", "2.jpg"):
        (tmp_path / name).touch()
    assert image_paths(["-"], io.TextIOWrapper(io.BytesIO(content))) == (["caf\u00e9.jpg", "2.jpg"], [])


def test_a_list_may_name_files_in_other_bytes_than_utf_8(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"{LATIN}.jpg").touch()
    assert image_paths(["-"], io.TextIOWrapper(io.BytesIO(b"caf\xe9.jpg\n")))[0] == [f"{LATIN}.jpg"]
    (fault,) = image_paths(["a\0b"], io.StringIO())[1]
    assert fault.startswith("there is no file a")


def test_a_list_from_another_system_may_write_accents_in_another_way(tmp_path):
    (tmp_path / "caf\u00e9.jpg").touch()
    listed = io.StringIO(f"{tmp_path}/cafe\u0301.jpg")
    assert image_paths(["-"], listed) == ([f"{tmp_path}/caf\u00e9.jpg"], [])


def test_a_jpeg_may_end_in_jfif_and_what_to_install_for_heic_is_told(tmp_path, monkeypatch):
    assert is_image("a.JFIF") and not is_image("jpg") and not is_image("a.gif")
    monkeypatch.setattr("thaw.data.endings._MISSING", {".heic": "pip install pillow-heif"})
    (tmp_path / "1.HEIC").touch()
    (fault,) = image_paths([str(tmp_path)], io.StringIO())[1]
    assert fault.endswith("; to read .heic files, pip install pillow-heif.")
    (tmp_path / "2.jpg").touch()
    found, (fault,) = image_paths([str(tmp_path)], io.StringIO())
    assert found == [f"{tmp_path}/2.jpg"] and fault.endswith(
        "are skipped: to read .heic files, pip install pillow-heif."
    )
    assert what_to_install(["a.jpg", "b"]) == ""
    assert len(set(EXTENSIONS)) == len(EXTENSIONS)


@pytest.mark.slow
def test_a_run_on_names_in_other_bytes_is_predicted_evaluated_and_shown(tiny_run, image_folder, tmp_path, script):
    root = image_folder((LATIN, "dog"))
    for split in ("train", "val"):
        (root / split / LATIN / "1.png").rename(root / split / LATIN / f"{LATIN}.png")
    run = tmp_path / "run"
    main(tiny_run(root=root))
    recorded = {row["path"]: row["predicted"] for row in read_rows(run / "predictions.csv")}
    assert f"val/{LATIN}/{LATIN}.png" in recorded and LATIN in read_summary(run)["classes"]
    (table,) = run.glob("tensorboard/*/*/metadata.tsv")
    assert SEEN in table.read_text("utf-8")
    assert script("predict", run, root / "val", "--format", "csv", "--out", tmp_path / "found.csv")[0] == 0
    found = {os.path.relpath(row["path"], root): row["predicted"] for row in read_rows(tmp_path / "found.csv")}
    assert found == recorded
    assert script("evaluate", run, root / "val", "--no-robustness", "--out", tmp_path / "e")[0] == 0
    assert len(read_rows(tmp_path / "e" / "predictions.csv")) == len(recorded)
    assert SEEN in (tmp_path / "e" / "evaluation.html").read_text("utf-8")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_list_in_utf_16_needs_no_mark_of_its_byte_order(tmp_path, monkeypatch, encoding):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "1.jpg").touch()
    assert image_paths(["-"], io.TextIOWrapper(io.BytesIO("1.jpg\n".encode(encoding)))) == (["1.jpg"], [])
