"""A class may be called as a column of predictions.csv is."""

import csv

import numpy as np
import pytest
from written_runs import write_run

from thaw.comparison.compare import compare
from thaw.comparison.finished_runs import Run
from thaw.evaluation.predictions import Predictions
from thaw.evaluation.predictions_table import COLUMNS, probability_column, read_predictions, write_predictions
from thaw.inference.export.exported_model import _validation_paths

FORMS = ["p_{}", "{}"]  # and the older one


def test_no_class_takes_the_place_of_a_column(tmp_path):
    classes = [*COLUMNS, "p_path", "p_", ""]
    columns = [*COLUMNS, *map(probability_column, classes)]
    assert len(set(columns)) == len(columns)
    labels, logits = np.arange(len(classes)), np.roll(np.eye(len(classes)), 1, 1)
    given = Predictions([f"/r/{n}.png" for n in labels], labels, logits, classes)
    write_predictions(tmp_path / "predictions.csv", given, "/r")
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == classes
    assert [row["predicted"] for row in rows] == [*classes[1:], classes[0]]
    assert all(row[probability_column(row["predicted"])] == row["confidence"] for row in rows)
    read = list(read_predictions(tmp_path / "predictions.csv"))
    assert read == [(row["path"], row["label"], row["predicted"], float(row["confidence"])) for row in rows]


@pytest.mark.parametrize("form", FORMS)
def test_a_sweep_of_classes_that_are_called_like_columns_has_its_accuracies(tmp_path, form):
    for seed, right in enumerate(([1, 1, 1, 0], [1, 1, 1, 1])):
        write_run(tmp_path / str(seed), right, seed=seed, classes=COLUMNS, column=form)
    facts = compare([Run(tmp_path / "0"), Run(tmp_path / "1")], tmp_path)
    assert facts["candidates"][0]["acc_by_seed"] == [0.75, 1.0]
    assert facts["candidates"][0]["acc_by_class"] == {"path": 1, "label": 1, "predicted": 1, "confidence": 0.5}


@pytest.mark.parametrize("form", FORMS)
def test_an_export_finds_the_images_of_such_classes(tmp_path, form):
    from types import SimpleNamespace

    run = write_run(tmp_path / "run", [1, 1, 1, 0], classes=COLUMNS, column=form, root=tmp_path)
    paths = [tmp_path / "val" / name / f"{number}.png" for number, name in enumerate(COLUMNS)]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.touch()
    found = _validation_paths(SimpleNamespace(source=run / "checkpoints" / "best.ckpt"))
    assert found == list(map(str, paths))


def test_of_a_run_without_predictions_there_are_none(tmp_path):
    assert list(read_predictions(tmp_path / "predictions.csv")) == []
    (tmp_path / "predictions.csv").touch()
    assert list(read_predictions(tmp_path / "predictions.csv")) == []
