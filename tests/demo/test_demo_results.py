"""What the demo shows, and that features do not change it."""

import json
import os
import statistics
from concurrent.futures import ThreadPoolExecutor

import pytest
from command_line import train

STRATEGIES = ("fine_tune", "lp_ft")
IMAGES = 400  # of the demo's validation set
CACHE = os.environ.get("THAW_CACHE", "")  # the user's, for learning the demo's weights takes minutes on all cores


def accuracy(folder):
    return json.loads((folder / "summary.json").read_text())["val"]["acc"]


@pytest.mark.slow
@pytest.mark.timeout(900)  # it trains nine times, and learns the demo's weights where that has not been done
def test_the_demo_shows_what_transfer_is_worth_and_features_do_not_change_it(tmp_path):
    def run(*overrides):
        done = train(*overrides, cwd=tmp_path, OMP_NUM_THREADS="1", THAW_CACHE=CACHE)
        assert done.returncode == 0, done.stderr

    run("hydra.run.dir=feature_extractor")
    short = ("-m", "seed=0,1", "trainer.max_epochs=5")
    jobs = [
        (*short, "strategy=feature_extractor,from_scratch", "hydra.sweep.dir=sweep"),
        (*short, "features.views=0", "hydra.sweep.dir=images"),
    ]
    jobs += [(f"strategy={strategy}", "trainer.max_epochs=5", f"hydra.run.dir={strategy}") for strategy in STRATEGIES]
    with ThreadPoolExecutor(2) as side_by_side:
        list(side_by_side.map(lambda job: run(*job), jobs))

    reached = {strategy: accuracy(tmp_path / strategy) for strategy in ("feature_extractor", *STRATEGIES)}
    assert reached["feature_extractor"] >= 0.93
    assert reached["fine_tune"] >= 0.95
    assert reached["lp_ft"] >= reached["feature_extractor"]

    comparison = json.loads((tmp_path / "sweep" / "comparison.json").read_text())
    (test,) = comparison["tests"]
    assert (test["a"], test["verdict"], test["b"]) == ("feature_extractor", "better", "from_scratch")
    assert test["adjusted"] < 0.05
    assert test["difference"] >= 0.08
    assert comparison["advice"][0].startswith("Use feature_extractor: ")

    with_features, without = (
        statistics.mean(map(accuracy, (tmp_path / sweep).glob("*-feature_extractor"))) for sweep in ("sweep", "images")
    )
    standard_error = (without * (1 - without) / IMAGES) ** 0.5
    assert abs(with_features - without) < standard_error
