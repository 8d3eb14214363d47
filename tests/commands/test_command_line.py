"""`python train.py` as a user runs it."""

import fcntl
import json
import os
import pty
import resource
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest
import torch
import torchvision
from command_line import TINY, TRAIN, train, with_nets
from conftest import ROOT, environment


@pytest.mark.parametrize("question", [["--help"], ["--cfg", "job"]])
def test_questions_are_answered_at_once(question, tmp_path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer = train(*question, cwd=tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert answer.returncode == 0
    assert "feature_extractor" in answer.stdout or "max_epochs" in answer.stdout
    # Of the processor, which other processes do not change as they change the time on the clock.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5
    assert not list(tmp_path.glob("outputs/*"))


def test_torch_is_not_imported_before_a_run_starts():
    code = "import sys, train; print([name for name in ('torch', 'lightning', 'numpy') if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert answer.stdout.strip() == "[]", answer.stderr


@pytest.mark.slow
def test_lightning_is_imported_without_packages_that_take_seconds(tmp_path):
    (tmp_path / "transformers").mkdir()
    (tmp_path / "transformers/__init__.py").write_text("raise SystemExit('it takes seconds')")
    (tmp_path / "transformers-4.50.0.dist-info").mkdir()
    (tmp_path / "transformers-4.50.0.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: transformers\nVersion: 4.50.0\n"
    )
    code = """if True:
        from thaw.runs.optional_imports import skip_unneeded
        skip_unneeded()
        import lightning, sys
        assert "scipy.signal" not in sys.modules
        import scipy.signal
        scipy.signal.firwin(3, 0.5)
    """
    path = os.pathsep.join([str(tmp_path), str(ROOT / "src")])
    subprocess.run([sys.executable, "-c", code], env=environment(PYTHONPATH=path), check=True)


def test_a_mistake_is_told_in_one_sentence_with_status_2(tmp_path):
    done = train(*TINY, "data.root=nowhere", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is no folder nowhere/train: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "outputs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.1, 0.2, 0.4, 0.8])
def test_ctrl_c_at_the_start_ends_without_a_traceback(tmp_path, seconds):
    with subprocess.Popen([*TRAIN, "-m", "seed=1,2"], cwd=tmp_path, env=with_nets(), stderr=-1, text=True) as process:
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        told = process.communicate(timeout=60)[1]
    assert (process.returncode, told) == (130, "")


def test_an_unknown_strategy_is_told_in_one_sentence_with_status_2_and_leaves_nothing(tmp_path):
    done = train("strategy=unfreeze_some", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: strategy=unfreeze_some is not an option of strategy; the choices are batch_norm, "
    )
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_refused_sweep_leaves_no_folder(tmp_path, image_folder):
    root = image_folder()
    done = train("-m", *TINY, f"data.root={root}", "seed=0,1", "optimizer.lr=1", "hydra.sweep.dir=s", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "error: optimizer.lr=1 has no effect: use strategy.lr=1.\n")
    assert not (tmp_path / "s").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_keeps_its_last_epoch(tmp_path, image_folder, sent, status):
    run = tmp_path / "run"
    overrides = [*TINY, f"data.root={image_folder(train=40)}", "trainer.max_epochs=5000", f"hydra.run.dir={run}"]
    overrides += ["callbacks.last.share=1e9"]
    with subprocess.Popen([*TRAIN, *overrides], env=with_nets(), stderr=-1, stdout=-3, text=True) as process:
        deadline = time.monotonic() + 60
        while not (run / "metrics.csv").exists() or (run / "metrics.csv").read_text().count("\n") < 4:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(sent)
        told = process.communicate(timeout=60)[1]
    assert process.returncode == status
    assert told.count("\n") == 1
    assert f"stopped by {sent.name}; python train.py resume={run} resumes" in told
    assert json.loads((run / "summary.json").read_text())["status"] == "interrupted"
    assert torch.load(run / "checkpoints/last.ckpt", weights_only=True)["epoch"] >= 2


@pytest.mark.slow
def test_a_terminal_shows_a_bar_and_a_file_just_lines(tmp_path, image_folder):
    overrides = [*TINY, f"data.root={image_folder()}", "trainer.max_epochs=2"]
    assert "batch/s" not in train(*overrides, cwd=tmp_path).stderr
    terminal, stderr = pty.openpty()
    fcntl.ioctl(stderr, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    with subprocess.Popen([*TRAIN, *overrides], cwd=tmp_path, env=with_nets(), stdout=-3, stderr=stderr) as process:
        os.close(stderr)
        shown = b""
        while True:
            try:
                shown += os.read(terminal, 4096)
            except OSError:  # the other end is closed
                break
    os.close(terminal)
    assert process.returncode == 0
    assert b"epoch 2/2" in shown
    assert b"batch/s" in shown


@pytest.mark.slow
def test_real_photographs_are_trained_on(tmp_path, photographs):
    checkpoints = tmp_path / "torch-home" / "hub" / "checkpoints"  # random tensors in the place of the published ones
    checkpoints.mkdir(parents=True)
    torch.save(torchvision.models.resnet34().state_dict(), checkpoints / "resnet34-b627a593.pth")
    run = [f"data.root={photographs}", "data=image_folder", "weights=imagenet", "strategy=fine_tune"]
    done = train(*run, "data.image_size=96", "trainer.max_epochs=1", "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "imageNotFound.gif" in done.stdout, "the file that is no photograph is told"
    assert len((tmp_path / "run" / "predictions.csv").read_text().splitlines()) == 1 + 153
    for file in (
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "figures/samples.png",
        "metrics.csv",
        "summary.json",
    ):
        assert (tmp_path / "run" / file).is_file()
