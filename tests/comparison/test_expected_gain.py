"""The expected gain from more labels follows the curve of a sweep=label_budget."""

import json

import pytest
import yaml

from thaw.comparison.expected_gain import read_label_budget
from thaw.errors import UserError


def label_budget(folder, strategy, shares, count=1000):
    """Write runs whose error is 2 * n^-0.5 for n of `count` training images."""
    for share in shares:
        run = folder / f"{strategy}-{share}"
        (run / ".hydra").mkdir(parents=True)
        values = {
            "strategy": {"name": strategy},
            "model": {"name": "resnet18"},
            "data": {"train_share": share, "seed": 0},
            "seed": 0,
        }
        (run / ".hydra/config.yaml").write_text(yaml.safe_dump(values))
        (run / ".hydra/resolved.yaml").write_text(yaml.safe_dump(values))
        error = 2 * (share * count) ** -0.5
        facts = {
            "status": "finished",
            "seed": 0,
            "classes": ["ants", "bees"],
            "val": {"acc": 1 - error, "n": 10_000_000},
        }
        (run / "summary.json").write_text(json.dumps(facts))


def test_the_expected_gain_follows_the_curve_of_the_same_strategy(tmp_path):
    label_budget(tmp_path / "sweep", "fine_tune", (0.1, 0.25, 0.5, 1.0))
    label_budget(tmp_path / "sweep", "probe", (0.1,))
    label_budget(tmp_path / "own", "fine_tune", (0.5,))
    gain = read_label_budget(tmp_path / "sweep", tmp_path / "own/fine_tune-0.5").gain(labelled=500, more=100)
    assert gain.runs == 4
    assert (gain.now, gain.then) == pytest.approx((1 - 2 * 500**-0.5, 1 - 2 * 600**-0.5), abs=1e-5)
    assert str(gain) == "With 100 more labels, the expected val/acc is 0.9184 instead of 0.9106 (curve of 4 runs)."


def test_a_curve_needs_two_numbers_of_images(tmp_path):
    label_budget(tmp_path / "sweep", "fine_tune", (0.5,))
    with pytest.raises(UserError, match="needs finished runs of fine_tune with resnet18 on the classes of"):
        read_label_budget(tmp_path / "sweep", tmp_path / "sweep/fine_tune-0.5")


def test_runs_with_another_network_or_other_classes_do_not_count(tmp_path):
    label_budget(tmp_path / "sweep", "fine_tune", (0.5, 1.0))
    path = tmp_path / "sweep/fine_tune-1.0/summary.json"
    path.write_text(path.read_text().replace("ants", "wasps"))
    with pytest.raises(UserError, match=r"at least two values of data\.train_share"):
        read_label_budget(tmp_path / "sweep", tmp_path / "sweep/fine_tune-0.5")
