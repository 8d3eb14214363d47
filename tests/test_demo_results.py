"""What the demo shows, and that features do not change it."""

import json
import statistics

import pytest
from test_command_line import train

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("demo")]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """In which demo weights are learned once for all of these tests, on all cores."""
    return {"THAW_CACHE": str(tmp_path_factory.mktemp("cache")), "OMP_NUM_THREADS": "2"}


def accuracy(folder):
    return json.loads((folder / "summary.json").read_text())["val"]["acc"]


def test_the_demo_shows_what_transfer_is_worth(tmp_path, cache):
    accuracies = {}
    for strategy in ("feature_extractor", "lp_ft", "fine_tune", "from_scratch"):
        done = train(f"strategy={strategy}", f"hydra.run.dir={strategy}", cwd=tmp_path, **cache)
        assert done.returncode == 0, done.stderr
        accuracies[strategy] = accuracy(tmp_path / strategy)
    assert accuracies["feature_extractor"] >= 0.93
    assert accuracies["fine_tune"] >= 0.95
    assert accuracies["lp_ft"] >= accuracies["feature_extractor"]
    assert accuracies["from_scratch"] <= accuracies["feature_extractor"] - 0.08


def test_features_change_the_accuracy_by_less_than_seeds_do(tmp_path, cache):
    accuracies = {}
    for views in ("auto", "0"):
        done = train(
            "-m", "seed=0,1,2,3,4", f"features.views={views}", f"hydra.sweep.dir={views}", cwd=tmp_path, **cache
        )
        assert done.returncode == 0, done.stderr
        accuracies[views] = [accuracy(folder.parent) for folder in (tmp_path / views).glob("*/summary.json")]
        assert len(accuracies[views]) == 5
    difference = statistics.mean(accuracies["auto"]) - statistics.mean(accuracies["0"])
    assert abs(difference) < max(accuracies["0"]) - min(accuracies["0"]), accuracies
