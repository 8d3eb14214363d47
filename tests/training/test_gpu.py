"""Runs on a CUDA GPU: what equal, stopped and continued runs compute is equal there, too."""

import json
import signal
import subprocess
import sys

import callbacks
import pytest
from command_line import TINY, TRAIN, with_nets
from conftest import rows
from resumed import STRATEGY, epochs, tensors

import thaw
from thaw.data.folders import ClassFolders
from thaw.training import step_graph
from train import main

pytestmark = pytest.mark.gpu
RECIPE = ["trainer.accelerator=cuda", "trainer.devices=1", "trainer.max_epochs=6", "callbacks.last.share=1e9"]
SIGNALS = "+callbacks.signals._target_=callbacks.Signals"


@pytest.fixture
def run(tiny_run, image_folder, tmp_path, without_pictures, monkeypatch):
    photos = image_folder()

    def main_until(place, *options, folder):
        monkeypatch.setattr(callbacks.Signals, "places", [place])
        monkeypatch.setattr(callbacks.Signals, "number", signal.SIGTERM)
        try:
            main(tiny_run(*STRATEGY, *RECIPE, SIGNALS, *options, root=photos, folder=folder))
        except SystemExit as stop:
            return stop.code
        return 0

    return main_until


@pytest.mark.parametrize(
    "options",
    [["features.views=2"], ["features.max_gb=1e-9"], ["features.views=0"], ["features.views=0", "data.device_gb=0"]],
)
def test_repeated_and_resumed_runs_equal_the_first(run, tmp_path, options):
    assert run(None, *options, folder="first") == run(None, *options, folder="again") == 0
    assert run(("train", 2, 0), *options, folder="part") == 143
    assert run(None, *options, f"resume={tmp_path / 'part'}", folder="part") == 0
    for other in ("again", "part"):
        assert epochs(tmp_path / "first") == epochs(tmp_path / other)
        for key, value in tensors(tmp_path / "first", "best").items():
            assert value.equal(tensors(tmp_path / other, "best")[key]), key


@pytest.mark.parametrize(
    "options", [[], ["features.views=0"], ["features.views=0", "data.device_gb=0", "data.num_workers=2"]]
)
def test_a_step_as_a_graph_is_the_step_itself(run, tmp_path, monkeypatch, options):
    recordings, record = [], step_graph._record

    def counted(*given):
        recordings.append(record(*given))
        return recordings[-1]

    monkeypatch.setattr(step_graph, "_record", counted)
    for graph in ("true", "false"):
        assert run(None, f"graph={graph}", "+model.dropout=0.3", *options, folder=graph) == 0
    assert len(recordings) == 3, "one for each phase of the first run"
    shares = [
        json.loads((tmp_path / graph / "summary.json").read_text())["train_gpu_share"] for graph in ("true", "false")
    ]
    assert 0 < shares[0] < 1.1 and shares[1] is None
    assert epochs(tmp_path / "true") == epochs(tmp_path / "false")
    for key, value in tensors(tmp_path / "true", "best").items():
        assert value.equal(tensors(tmp_path / "false", "best")[key]), key


def test_pixels_on_the_card_are_those_of_the_loader(run, tmp_path, monkeypatch):
    devices, move = [], ClassFolders.move_decoded

    def noted(images, device):
        devices.append(device.type)
        move(images, device)

    monkeypatch.setattr(ClassFolders, "move_decoded", noted)
    assert run(None, "features.views=0", folder="card") == 0
    assert devices == ["cuda", "cuda"], "both splits"
    assert run(None, "features.views=0", "data.device_gb=0", folder="loader") == 0
    assert len(devices) == 2
    assert epochs(tmp_path / "card") == epochs(tmp_path / "loader")


def test_predict_says_of_validation_images_what_the_run_said(run, tmp_path):
    assert run(None, folder="run") == 0
    said = rows(tmp_path / "run/predictions.csv")
    paths = [tmp_path / "photos" / row["path"] for row in said]
    found = thaw.predict(thaw.load_model(tmp_path / "run"), paths)
    assert [one.top[0][0] for one in found] == [row["predicted"] for row in said]


def test_one_process_under_torchrun_trains_with_nccl(tmp_path, image_folder):
    options = ["trainer=ddp", "trainer.devices=1", "trainer.max_epochs=2", "hydra.run.dir=run"]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "1", *TRAIN[1:], *TINY, *options]
    done = subprocess.run(
        [*command, f"data.root={image_folder()}"], cwd=tmp_path, env=with_nets(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run/summary.json").read_text())["status"] == "finished"
