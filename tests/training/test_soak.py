"""Runs that are stopped and killed at random: THAW_SOAK=200 gives 200 kills and a tenth as many stops."""

import json
import multiprocessing
import os
import random
import re
import signal
import time
from pathlib import Path

import pytest
import torch
from resumed import epochs, tensors

from thaw.training.trainer import describe_progress, last_checkpoint
from train import main

KILLS = int(os.environ.get("THAW_SOAK", "10"))
STOPS = max(4, KILLS // 10)
PHASE = max(15, 2 * STOPS)  # epochs
PHASES = f"[{{train: head, epochs: {PHASE}}}, {{train: layer1, epochs: {PHASE}, lr: 0.05}}, {{train: all}}]"
OPTIONS = [f"strategy.phases={PHASES}", "strategy.lr=0.1", "+model.dropout=0.3", "data.num_workers=0"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + 20 * KILLS)]


@pytest.fixture
def begin(tiny_run, image_folder, without_pictures):
    """Starts a run in a process of its own, which goes on where it was left."""
    photos = image_folder(train=40)

    def begin_in(folder, *options):
        again = [f"resume={folder}"] if (folder / ".hydra").is_dir() else []
        cfg = tiny_run(*OPTIONS, *options, *again, root=photos, folder=folder.name)
        process = multiprocessing.get_context("fork").Process(target=main, args=(cfg,))
        process.start()
        return process

    return begin_in


def wait_for(process, happened):
    while process.is_alive() and not happened():
        time.sleep(0.002)


def end_at_random(process, number, most):
    time.sleep(random.uniform(0, most))
    os.kill(process.pid, number)
    process.join(60)
    return process.exitcode


def listens(process):
    """Whether signals are the run's own by now; before, SIGTERM ends it as any program, which shells call 143, too."""
    (caught,) = re.findall(r"^SigCgt:\t(\w+)", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    return int(caught, 16) >> (signal.SIGTERM - 1) & 1


def rows_in(folder):
    path = folder / "metrics.csv"
    return len(path.read_text().splitlines()) - 1 if path.is_file() else 0


def names_of_checkpoints_that_load(folder):
    found = list((folder / "checkpoints").glob("*.ckpt"))
    for path in found:
        assert torch.load(path, weights_only=True)["state_dict"], path
    return {path.stem for path in found}


def test_checkpoints_load_after_every_sigkill_and_the_run_goes_on(tmp_path, begin):
    random.seed(0)
    part, steps, inside = tmp_path / "part", 0, 0
    for kill in range(KILLS):
        process = begin(part, "trainer.max_epochs=100000", "callbacks.last.share=1e9", "features.views=0")
        status = end_at_random(process, signal.SIGKILL, most=3)
        assert status == -signal.SIGKILL, f"kill {kill}: it ended by itself with {status}"
        inside += any((part / "checkpoints").glob("*.part"))
        found = names_of_checkpoints_that_load(part)
        if "last" in found:
            now = torch.load(part / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
            assert now >= steps, f"kill {kill}: the run went back"
            steps = now
    assert found == {"best", "last"}
    print(f"{KILLS} kills, {inside} of them while a checkpoint was written, {steps} steps")


@pytest.mark.parametrize("features", ["features.views=0", "features.views=2"])
def test_a_run_stopped_at_random_moments_ends_as_one_that_was_not(tmp_path, begin, features):
    random.seed(1)
    options = [features, f"trainer.max_epochs={3 * PHASE}"]
    whole, part, inside = tmp_path / "whole", tmp_path / "part", 0
    run = begin(whole, *options)
    for epoch in sorted(random.sample(range(3 * PHASE - 10), STOPS)):
        process = begin(part, *options)
        wait_for(process, lambda process=process, epoch=epoch: listens(process) and rows_in(part) >= epoch)
        assert end_at_random(process, signal.SIGTERM, most=0.1) == 143
        assert json.loads((part / "summary.json").read_text())["status"] == "interrupted"
        names_of_checkpoints_that_load(part)
        inside += bool(checkpoint := last_checkpoint(part)) and "batches" in describe_progress(checkpoint)
    for process in (run, begin(part, *options)):
        process.join(300)
        assert process.exitcode == 0
    assert epochs(part) == epochs(whole)
    for name in ("best", "last"):
        assert all(value.equal(tensors(part, name)[key]) for key, value in tensors(whole, name).items()), name
    assert (part / "predictions.csv").read_bytes() == (whole / "predictions.csv").read_bytes()
    print(f"{STOPS} stops, {inside} of them inside an epoch")
