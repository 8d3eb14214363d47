"""Drawn scenes show the animals that their table names, and a run on them works from end to end."""

import csv
import json

import numpy as np
import pytest
from conftest import rows

from thaw.demo.scenes import draw_scenes
from train import main

SPECIES = ("cat", "dog", "owl", "pig")


def test_equal_arguments_give_equal_scenes_with_one_to_three_species(tmp_path):
    for name in ("one", "other"):
        draw_scenes(tmp_path / name, SPECIES, {"train": 12, "val": 6}, seed=1)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert len(files) == 19
    assert all((tmp_path / "one" / path).read_bytes() == (tmp_path / "other" / path).read_bytes() for path in files)
    with (tmp_path / "one" / "labels.csv").open() as file:
        sets = [row["label"].split("|") for row in csv.DictReader(file)]
    assert {len(one) for one in sets} == {1, 2, 3} and all(set(one) <= set(SPECIES) for one in sets)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_on_scenes_beats_chance_for_every_species(configure, tmp_path):
    main(configure("data=scenes", "model=resnet18", "strategy=probe"))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["metric"] == "map" and summary["val"]["map"] > 0.35
    assert (tmp_path / "run" / "figures" / "average_precision.png").stat().st_size > 5000
    shares = np.mean([len(row["label"].split("|")) for row in rows(tmp_path / "run" / "predictions.csv")]) / 10
    assert summary["val"]["map_ci95"][0] > 1.5 * shares
