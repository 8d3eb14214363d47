"""What the demo shows, and that features do not change it."""

import json
import statistics
from concurrent.futures import ThreadPoolExecutor

import pytest
from test_command_line import train

STRATEGIES = ("fine_tune", "from_scratch", "lp_ft")
VIEWS = ("0", "auto")


def accuracy(folder):
    return json.loads((folder / "summary.json").read_text())["val"]["acc"]


@pytest.mark.slow
@pytest.mark.timeout(900)  # it learns the demo's weights, then trains 14 times
def test_the_demo_shows_what_transfer_is_worth_and_features_do_not_change_it(tmp_path):
    """One test, for the demo's weights are to be learned once."""
    shared = {"THAW_CACHE": str(tmp_path / "cache"), "OMP_WAIT_POLICY": "PASSIVE"}  # other tests use the cores too

    def run(*overrides, threads="1"):
        done = train(*overrides, cwd=tmp_path, OMP_NUM_THREADS=threads, **shared)
        assert done.returncode == 0, done.stderr

    run("hydra.run.dir=feature_extractor", threads="2")
    jobs = [("-m", "seed=0,1,2,3,4", f"features.views={views}", f"hydra.sweep.dir={views}") for views in VIEWS]
    jobs += [(f"strategy={strategy}", f"hydra.run.dir={strategy}") for strategy in STRATEGIES]
    with ThreadPoolExecutor(2) as side_by_side:
        list(side_by_side.map(lambda job: run(*job), jobs))

    reached = {strategy: accuracy(tmp_path / strategy) for strategy in ("feature_extractor", *STRATEGIES)}
    assert reached["feature_extractor"] >= 0.93
    assert reached["fine_tune"] >= 0.95
    assert reached["lp_ft"] >= reached["feature_extractor"]
    assert reached["from_scratch"] <= reached["feature_extractor"] - 0.08

    seeds = {views: [accuracy(tmp_path / views / str(job)) for job in range(5)] for views in VIEWS}
    difference = statistics.mean(seeds["auto"]) - statistics.mean(seeds["0"])
    assert abs(difference) < max(seeds["0"]) - min(seeds["0"]), seeds
