"""`python train.py sweep=search` finds, compares, continues and refuses, in processes of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from command_line import TINY, TRAIN, train, with_nets
from conftest import ROOT
from omegaconf import OmegaConf

pytest.importorskip("optuna")

SMALL = [arg for arg in TINY if not arg.startswith("data=")]
SPACE = ["model=resnet18", "strategy=feature_extractor,fine_tune", "trainer.max_epochs=2", "budget=10min"]


@pytest.fixture
def search(tmp_path, image_folder):
    root = image_folder()

    def command(*arguments):
        return ["sweep=search", f"data.root={root}", *SMALL, *SPACE, *arguments]

    return command


def facts(tmp_path):
    return json.loads((tmp_path / "outputs" / "search" / "search.json").read_text())


def predict(model):
    image = next(model.parents[1].glob("photos/val/ants/*.png"), None) or next(
        model.parents[3].glob("photos/val/ants/*.png")
    )
    command = [sys.executable, str(ROOT / "scripts" / "predict.py"), str(model), str(image)]
    return subprocess.run(command, env=with_nets(), capture_output=True, text=True, check=True)


@pytest.mark.slow
def test_a_search_names_a_winner_measures_it_on_unseen_images_and_leaves_a_model(search, tmp_path):
    done = train(*search("trials=4"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder, found = tmp_path / "outputs" / "search", facts(tmp_path)
    assert len(found["trials"]) == 4
    for row in found["trials"]:
        run = next((folder / "trials").glob(f"{row['number']:03d}-*"))
        values = OmegaConf.load(run / ".hydra" / "resolved.yaml")
        for key in row["params"].keys() - {"backbone", "strategy", "scheduler", "data.crop_scale"}:
            assert float(OmegaConf.select(values, key)) == pytest.approx(float(row["params"][key])), key
    assert len({row["options"] for row in found["trials"]}) > 1
    assert found["final"]["seeds"] == [1, 2, 3]
    unseen = found["final"]["images"]
    summary = json.loads((folder / found["model"] / "summary.json").read_text())
    assert summary["val"]["n"] == unseen, "the final model trains on all but the validation images"
    searched = json.loads(next((folder / "trials").glob("*/summary.json")).read_text())
    assert searched["fingerprint"]["val"] != summary["fingerprint"]["val"]
    assert "test" not in searched, "no trial looks at the unseen images"
    assert "val_as_test" not in found["winner"]["command"]
    assert (folder / found["model"] / "checkpoints" / "best.ckpt").is_file()
    kept = {path.parent.parent.name for path in (folder / "trials").glob("*/checkpoints/best.ckpt")}
    assert len(kept) <= 1, "checkpoints of trials would fill the disk"
    assert (folder / "search.html").read_text().count("<svg") >= 2
    assert (folder / "final" / "report.html").is_file()
    assert "report   outputs/search/search.html" in done.stdout

    again = train(*search("trials=4"), cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert {**facts(tmp_path), "used": 0} == {**found, "used": 0}
    more = train(*reversed(search("trials=6")), cwd=tmp_path)  # the order of options does not matter
    assert more.returncode == 0, more.stderr
    before = [{**row, "pareto": None} for row in found["trials"]]
    assert [{**row, "pareto": None} for row in facts(tmp_path)["trials"][:4]] == before
    assert len(facts(tmp_path)["trials"]) == 6

    other = train(*search("trials=6", "data.rotation=0,15"), cwd=tmp_path)
    assert (other.returncode, other.stdout) == (2, "")
    assert other.stderr == (
        "error: outputs/search holds a search with other options. Only there: nothing; only here: data.rotation in 0, "
        "15. Repeat its options, or choose another folder with hydra.sweep.dir=….\n"
    )
    assert predict(folder).stdout == predict(folder / found["model"]).stdout, "the search's model is used"


@pytest.mark.slow
def test_test_images_are_the_unseen_images_if_there_are_any(search, tmp_path):
    root = tmp_path / "photos"
    (root / "test").mkdir()
    for name in ("ants", "bees"):
        shutil.copytree(root / "val" / name, root / "test" / name)
    done = train(*search("trials=2"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = facts(tmp_path)
    assert found["final"]["measured_on"] == "the images in test/"
    assert found["model"].startswith("final/")


@pytest.mark.slow
def test_a_stopped_search_continues_with_the_same_command(search, tmp_path):
    process = subprocess.Popen(
        [*TRAIN, *search("trials=4")], cwd=tmp_path, env=with_nets(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    folder = tmp_path / "outputs" / "search"
    deadline = time.monotonic() + 60
    while not list(folder.glob("trials/001*/metrics.csv")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert errors.splitlines()[-1].startswith("error: stopped by SIGINT after ")
    assert facts(tmp_path)["final"] is None and (folder / "search.html").is_file(), "the trials so far"
    done = train(*search("trials=4"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(facts(tmp_path)["trials"]) == 4


@pytest.mark.slow
def test_workers_share_a_search(search, tmp_path):
    done = train(*search("trials=5", "sweep.workers=2"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = facts(tmp_path)
    assert [row["number"] for row in found["trials"]] == list(range(5))
    assert found["final"]["seeds"] == [1, 2, 3]
    assert not list((tmp_path / "outputs" / "search" / "workers").glob("*.log")), "no worker failed"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("budget=soon", "budget=soon is no duration: write 90s, 30min, 2h or 1h30min."),
        ("data.rotation=-1,0", "data.rotation=-1"),
        ("seed=0,x", "seed='x' must be a whole number"),
        ("data.batch_size=interval(2,9)", "data.batch_size must be a whole number: write int(interval(2,9))."),
        ("strategy=[]", "names no strategy"),
        ("scheduler=step_lr,none", "scheduler=none"),
        ("backbones=resnet18", "model=resnet18 and backbones=… both choose networks: leave one of them out."),
    ],
)
def test_what_cannot_be_searched_is_refused_before_the_first_trial(search, tmp_path, wrong, sentence):
    done = train(*search(wrong), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and sentence in done.stderr
    assert not (tmp_path / "outputs").exists()
