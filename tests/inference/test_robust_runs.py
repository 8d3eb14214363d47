"""`robustness=true`: a run also says how well it classifies corrupted validation images."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from thaw.data.datamodule import image_folders
from thaw.evaluation.corruptions import CORRUPTIONS
from thaw.inference.folder_predictions import predict_folder
from thaw.inference.trained_model import load_model
from train import main


def test_a_run_records_which_corrupted_images_it_classifies_correctly(tiny_run, image_folder, script):
    root = image_folder()
    cfg = tiny_run("robustness=true", root=root)
    main(cfg)
    folder = Path(cfg.output_dir)
    with (folder / "corrupted_predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    data = image_folders(root, 16)
    found = predict_folder(load_model(folder), data.val.samples, CORRUPTIONS)
    assert [row["path"] for row in rows] == [Path(p).relative_to(root).as_posix() for p in data.val.paths]
    table = np.array([[int(row[f"{one.kind} {one.severity}"]) for one in CORRUPTIONS] for row in rows])
    assert np.array_equal(table.T, [right for right, _ in found.corrupted])
    summary = json.loads((folder / "summary.json").read_text())["robustness"]
    assert summary["acc"] == table.mean()
    assert summary["blur"] == table[:, :3].mean()
    assert script("compare", folder)[0] == 0
    (entry,) = json.loads((folder / "comparison.json").read_text())["candidates"]
    assert entry["robustness"] == {"acc": pytest.approx(summary["acc"]), "verdict": "best", "p": None}
