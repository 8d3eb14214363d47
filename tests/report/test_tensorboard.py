"""A real TensorBoard on real runs, over HTTP and in a real browser."""

import json
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import numpy as np
import pytest
from command_line import TINY, train
from conftest import rows
from PIL import Image

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
STRATEGIES = ("fine_tune", "probe")
RUNS = [f"{job}-{strategy}/tensorboard" for job, strategy in enumerate(STRATEGIES)]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("board")
    write_folder(folder / "photos")
    # One net hardly moves and the other's head is solved: their accuracies differ, so a mix-up of the runs is noticed.
    overrides = [*TINY, "data.root=photos", "trainer.max_epochs=3", "strategy.lr=1e-9", "strategy.head_lr=1e-9"]
    done = train("-m", *overrides, "hydra.sweep.dir=sweep", f"strategy={','.join(STRATEGIES)}", cwd=folder)
    assert done.returncode == 0, done.stderr
    first, second = (summary["val"]["acc"] for summary in summaries(folder / "sweep"))
    assert first != second
    return folder / "sweep"


@pytest.fixture(scope="module")
def address(sweep):
    command = [sys.executable, "-m", "tensorboard.main", f"--logdir={sweep}", "--host=127.0.0.1", "--port=0"]
    with subprocess.Popen([*command, "--load_fast=false"], stdout=-3, stderr=-1, text=True) as process:
        try:
            yield next(word for line in process.stderr for word in line.split() if word.startswith("http://"))
        finally:
            process.kill()  # asked politely, a server that is answering may miss it


def write_folder(root):
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for label, name in enumerate(("ants", "bees")):
            (root / split / name).mkdir(parents=True)
            for number in range(8):
                pixels = random.integers(0, 120, (40, 50, 3), dtype=np.uint8)
                pixels[..., label] += 100
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")


def asked(address, body=None, **query):
    text = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        address + urllib.parse.urlencode(query), text, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        content = answer.read()
    return json.loads(content) if content.startswith((b"{", b"[")) else content


def awaited(ask, is_there):
    """What `ask()` gives once the server has read the event files."""
    for _ in range(300):
        told = ask()
        if is_there(told):
            return told
        time.sleep(0.1)
    raise AssertionError(f"TensorBoard tells {told}")


def summaries(sweep):
    return [json.loads((sweep / run).parent.joinpath("summary.json").read_text()) for run in RUNS]


def test_each_job_is_one_run_with_its_curves_and_pictures(address, sweep):
    tags = awaited(lambda: asked(f"{address}data/plugin/images/tags?"), lambda told: len(told) == 2)
    assert sorted(tags) == RUNS
    assert all({"samples", "predictions", "confusion_matrix"} <= found.keys() for found in tags.values())
    (picture,) = asked(f"{address}data/plugin/images/images?", run=RUNS[0], tag="confusion_matrix", sample=0)
    assert asked(f"{address}data/plugin/images/individualImage?{picture['query']}").startswith(b"\x89PNG")
    scalars = asked(f"{address}data/plugin/scalars/tags?")
    assert {"train/loss", "train/acc", "val/loss", "val/acc", "val/macro_f1", "val/ece"} <= scalars[RUNS[0]].keys()
    points = asked(f"{address}data/plugin/scalars/scalars?", run=RUNS[0], tag="val/acc")
    accuracies = [float(row["val/acc"]) for row in rows((sweep / RUNS[0]).parent / "metrics.csv")]
    assert [value for _, _, value in points] == pytest.approx(accuracies, abs=1e-6)


def test_training_and_validation_share_a_chart(address):
    layout = awaited(lambda: asked(f"{address}data/plugin/custom_scalars/layout"), bool)
    charts = {chart["title"]: chart["multiline"]["tag"] for chart in layout["category"][0]["chart"]}
    assert charts == {"loss": ["train/loss", "val/loss"], "accuracy": ["train/acc", "val/acc"]}
    for tag in charts["accuracy"]:
        shown = asked(f"{address}data/plugin/custom_scalars/scalars?", run=RUNS[0], tag=tag)["tag_to_events"]
        assert list(shown) == [tag], "a tag is looked for as a pattern"


def test_the_table_of_runs_has_what_sets_them_apart_and_the_real_accuracies(address, sweep):
    body = {"experimentName": "", "includeMetrics": True}
    table = awaited(lambda: asked(f"{address}data/plugin/hparams/experiment", body), both_are_in)
    assert {"strategy", "model", "weights", "data", "seed", "trainer.max_epochs"} <= {
        info["name"] for info in table["hparamInfos"]
    }
    assert {"best/val/acc", "cost/seconds"} <= {info["name"]["tag"] for info in table["metricInfos"]}
    everything = {
        "startIndex": 0,
        "sliceSize": 9,
        "colParams": [],
        "allowedStatuses": ["STATUS_SUCCESS", "STATUS_RUNNING"],
    }
    groups = awaited(
        lambda: asked(f"{address}data/plugin/hparams/session_groups", {**body, **everything})["sessionGroups"],
        lambda told: len(told) == 2,
    )
    told = {group["hparams"]["strategy"]: values(group["metricValues"]) for group in groups}
    for strategy, summary in zip(STRATEGIES, summaries(sweep), strict=True):
        assert told[strategy]["best/val/acc"] == pytest.approx(summary["val"]["acc"])
        assert told[strategy]["cost/seconds"] == pytest.approx(summary["seconds"]["total"])


def both_are_in(table):
    return any(info["name"] == "strategy" and info["differs"] for info in table.get("hparamInfos", []))


def values(metrics):
    return {metric["name"]["tag"]: metric["value"] for metric in metrics}


def test_the_projector_has_every_validation_image(address, sweep):
    runs = awaited(lambda: asked(f"{address}data/plugin/projector/runs"), lambda told: len(told) == 2)
    assert sorted(runs) == RUNS
    for run in RUNS:
        (embedding,) = asked(f"{address}data/plugin/projector/info?", run=run)["embeddings"]
        query = {"run": run, "name": embedding["tensorName"]}
        points = np.frombuffer(asked(f"{address}data/plugin/projector/tensor?", **query), np.float32)
        assert points.size == 16 * 8
        assert np.isfinite(points).all()
        header, *told = asked(f"{address}data/plugin/projector/metadata?", **query).decode().splitlines()
        assert header.split("\t") == ["class", "predicted", "path"]
        predictions = rows((sweep / run).parent / "predictions.csv")
        assert told == ["\t".join([row["label"], row["predicted"], row["path"]]) for row in predictions]


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1600, "height": 900})
    page, faults = context.new_page(), []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.set_default_timeout(60_000)
    yield page
    context.close()
    assert faults == []


def test_a_browser_shows_the_curves_of_both_runs(page, address, sweep, tmp_path):
    page.goto(f"{address}?tagFilter=acc%24#timeseries")
    for run in RUNS:
        page.get_by_text(run, exact=True).first.wait_for()
    page.get_by_text("val/acc", exact=True).first.wait_for()
    best = page.locator("scalar-card").filter(has_text="best/val/acc")
    for summary in summaries(sweep):
        best.get_by_text(f"{summary['val']['acc']:.4g}", exact=True).first.wait_for()
    page.wait_for_timeout(2000)  # curves are drawn a moment after their numbers
    page.screenshot(path=tmp_path / "curves.png")


def test_a_browser_shows_training_against_validation(page, address, tmp_path):
    page.goto(f"{address}#custom_scalars")
    for title in ("loss", "accuracy"):
        page.get_by_text(title, exact=True).first.wait_for()
    matches = page.get_by_text("Matches (4)")  # two runs, training and validation of each
    matches.nth(1).wait_for()
    page.wait_for_timeout(2000)
    page.screenshot(path=tmp_path / "custom_scalars.png")


def test_a_browser_shows_the_table_of_runs(page, address, sweep, tmp_path):
    page.goto(f"{address}#hparams")
    page.get_by_text("best/val/acc").first.wait_for()
    page.get_by_text("strategy", exact=True).first.wait_for()
    for summary in summaries(sweep):
        page.get_by_text(f"{summary['val']['acc']:#.5g}", exact=True).first.wait_for()
    page.screenshot(path=tmp_path / "hparams.png")


def test_a_browser_shows_the_images_as_points_coloured_by_class(page, address, tmp_path):
    page.goto(f"{address}#projector")
    inner = page.frame_locator("iframe").frame_locator("iframe")  # the plugin's, and in it the projector's own
    inner.get_by_text("Points: 16").wait_for()
    inner.get_by_text("Total variance described").wait_for()  # as is told once the points have their places
    inner.locator("#colorby").click()
    inner.locator("paper-item").filter(has_text="class 2 colors").click()
    page.screenshot(path=tmp_path / "projector.png")
