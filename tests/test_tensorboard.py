"""A real TensorBoard on real runs, over HTTP and in a real browser."""

import json
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import pytest
from conftest import rows
from test_command_line import TINY, train

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
RUNS = [f"{seed}-feature_extractor/tensorboard" for seed in (0, 1)]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("board")
    write_folder(folder / "photos")
    overrides = ["-m", *TINY, "data.root=photos", "trainer.max_epochs=3", "seed=0,1", "hydra.sweep.dir=sweep"]
    done = train(*overrides, cwd=folder)
    assert done.returncode == 0, done.stderr
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
    import numpy as np
    from PIL import Image

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


def test_the_table_of_runs_has_the_seeds_and_the_real_accuracies(address, sweep):
    body = {"experimentName": "", "includeMetrics": True}
    awaited(lambda: asked(f"{address}data/plugin/hparams/experiment", body), lambda told: told.get("metricInfos"))
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
    told = {group["hparams"]["seed"]: {m["name"]["tag"]: m["value"] for m in group["metricValues"]} for group in groups}
    for seed, summary in enumerate(summaries(sweep)):
        assert told[seed]["best/val/acc"] == pytest.approx(summary["val"]["acc"])
        assert told[seed]["cost/seconds"] == pytest.approx(summary["seconds"]["total"])


def test_the_projector_has_every_validation_image(address):
    runs = awaited(lambda: asked(f"{address}data/plugin/projector/runs"), lambda told: len(told) == 2)
    (embedding,) = asked(f"{address}data/plugin/projector/info?", run=runs[0])["embeddings"]
    assert embedding["tensorShape"] == [16, 8]
    metadata = asked(f"{address}data/plugin/projector/metadata?", run=runs[0], name=embedding["tensorName"])
    assert metadata.decode().splitlines()[0].split("\t") == ["class", "predicted", "path"]


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    page, faults = context.new_page(), []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.set_default_timeout(60_000)
    yield page
    context.close()
    assert faults == []


def test_a_browser_shows_the_curves_of_both_runs(page, address, tmp_path):
    page.goto(f"{address}#timeseries")
    for run in RUNS:
        page.get_by_text(run, exact=True).first.wait_for()
    page.get_by_text("val/acc").first.wait_for()
    page.screenshot(path=tmp_path / "curves.png")


def test_a_browser_shows_the_table_of_runs(page, address, sweep, tmp_path):
    page.goto(f"{address}#hparams")
    page.get_by_text("best/val/acc").first.wait_for()
    page.get_by_role("columnheader", name="seed").or_(page.get_by_text("seed", exact=True)).first.wait_for()
    for summary in summaries(sweep):
        page.get_by_text(f"{summary['val']['acc']:#.5g}", exact=True).first.wait_for()
    page.screenshot(path=tmp_path / "hparams.png")


def test_a_browser_shows_the_images_as_points(page, address, tmp_path):
    page.goto(f"{address}#projector")
    inner = page.frame_locator("iframe").frame_locator("iframe")  # the plugin's, and in it the projector's own
    inner.get_by_text("Points: 16").wait_for()
    page.screenshot(path=tmp_path / "projector.png")
