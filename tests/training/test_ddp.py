"""Several processes train what one does."""

import json
import subprocess
import sys

import pytest
import torch
from command_line import TINY, TRAIN, train, with_nets
from conftest import ROOT, rows
from resumed import epochs, tensors

from thaw.training.trainer import describe_progress

NET = ["model._target_=nets.normless_net", "model.name=resnet18", "weights=none", "trainer.precision=32-true"]
RUN = ["data=image_folder", "data.image_size=24", "data.batch_size=6", "strategy=gradual", "trainer.max_epochs=6"]
RUN += ["features.views=1"]  # each process reads the features that one of them wrote
TWO = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node"]


@pytest.mark.slow
def test_two_processes_hold_identical_weights_after_every_phase_and_those_of_one(tmp_path, image_folder):
    def run(name, *overrides):
        watched = [f"+callbacks.states={{_target_: callbacks.PhaseStates, folder: {tmp_path / name}-states}}"]
        watched += [f"+callbacks.losses={{_target_: callbacks.StepLosses, path: {tmp_path / name}-losses}}"]
        cache = str(tmp_path / f"{name}-cache")
        overrides = [*watched, f"hydra.run.dir={name}", *overrides]
        done = train(*NET, *RUN, f"data.root={root}", *overrides, cwd=tmp_path, THAW_CACHE=cache)
        assert done.returncode == 0, done.stderr
        return done

    def state(name, phase, rank):
        return torch.load(tmp_path / f"{name}-states" / f"{phase}-{rank}.pt", weights_only=True)

    def losses(name):
        return [float(line) for line in (tmp_path / f"{name}-losses").read_text().split()]

    def kept(name):
        return {path.name for path in (tmp_path / f"{name}-cache" / "features").iterdir()}

    root = image_folder(("ants", "bees", "cows"), train=9)  # the last batch has three images, two and one
    one = run("one", "trainer.accelerator=cpu")
    two = run("two", *TWO)
    assert len(one.stdout.splitlines()) == len(two.stdout.splitlines()), "the second process says nothing"
    assert len(losses("one")) == 6 * 5
    assert losses("two") == pytest.approx(losses("one"), abs=1e-5)
    assert kept("one") == kept("two"), "features are kept once for all processes"
    for phase in range(1, 6):
        alone, first, second = state("one", phase, 0), state("two", phase, 0), state("two", phase, 1)
        for key, tensor in alone.items():
            assert first[key].equal(second[key]), (phase, key)
            assert torch.allclose(first[key], tensor, atol=1e-5), (phase, key)
    first, second = (json.loads((tmp_path / name / "summary.json").read_text())["val"] for name in ("one", "two"))
    assert (first["loss"], first["n"]) == (pytest.approx(second["loss"], abs=1e-5), second["n"])
    tables = [rows(tmp_path / name / "metrics.csv") for name in ("one", "two")]
    for alone, together in zip(*tables, strict=True):
        for column in alone.keys() - {"seconds"}:
            assert float(alone[column]) == pytest.approx(float(together[column]), abs=1e-5), column


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 3])
def test_validation_metrics_are_those_of_one_process_for_any_number_of_images(tmp_path, image_folder, devices):
    def metrics(starter, count):
        script = [*starter, str(ROOT / "tests" / "validated.py"), root, f"{tmp_path}/{count}", str(count)]
        done = subprocess.run(script, env=with_nets(), capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return [json.loads((tmp_path / f"{count}-{rank}").read_text()) for rank in range(count)]

    root = str(image_folder(("ants", "bees", "cows")))
    (alone,) = metrics([sys.executable], 1)
    assert len({found["val/loss"] for found in alone}) == len(alone) == 9
    for of_rank in metrics([*TORCHRUN, str(devices)], devices):
        assert of_rank == alone


@pytest.mark.slow
def test_processes_that_torchrun_starts_share_one_folder(tmp_path, image_folder):
    command = [*TORCHRUN, "2", TRAIN[1], *TINY[:-1], "data.batch_size=4", f"data.root={image_folder()}", *TWO]
    done = subprocess.run(
        [*command, "trainer.max_epochs=2"], cwd=tmp_path, env=with_nets(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 2/2") == 1
    (run,) = (tmp_path / "outputs" / "feature_extractor").iterdir()
    assert json.loads((run / "summary.json").read_text())["status"] == "finished"
    assert sorted(path.name for path in run.glob("*.log")) == ["train.log"]


@pytest.mark.slow
def test_processes_that_slurm_starts_share_one_folder(tmp_path, image_folder):
    command = [*TRAIN, *TINY[:-1], "data.batch_size=4", f"data.root={image_folder()}", *TWO, "trainer.max_epochs=2"]
    job = {"SLURM_JOB_ID": "31", "SLURM_JOB_NAME": "thaw", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}
    job |= {"SLURM_NNODES": "1", "SLURM_NODEID": "0", "SLURM_NODELIST": "127.0.0.1", "SLURM_JOB_NODELIST": "127.0.0.1"}
    tasks = [
        subprocess.Popen(
            command,
            cwd=tmp_path,
            env=with_nets(**job, SLURM_PROCID=rank, SLURM_LOCALID=rank),
            stdout=-1,
            stderr=-1,
            text=True,
        )
        for rank in ("0", "1")
    ]
    (told, errors), (silence, _) = (task.communicate(timeout=300) for task in tasks)
    assert [task.returncode for task in tasks] == [0, 0], errors
    assert told.count("epoch 2/2") == 1
    assert silence == ""
    (run,) = (tmp_path / "outputs" / "feature_extractor").iterdir()
    assert json.loads((run / "summary.json").read_text())["status"] == "finished"


@pytest.mark.slow
def test_every_job_of_a_sweep_may_have_several_processes(tmp_path, image_folder):
    sweep = ["-m", "strategy=bias", "seed=0,1", "hydra.sweep.dir=sweep", "trainer.max_epochs=2", *TINY[:-1]]
    done = train(*sweep, "data.batch_size=4", f"data.root={image_folder()}", *TWO, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    summaries = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("sweep/*/summary.json"))]
    assert [(summary["status"], summary["seed"]) for summary in summaries] == [("finished", 0), ("finished", 1)]
    for seed in (0, 1):
        assert (tmp_path / "sweep" / f"{seed}-bias" / "train_ddp_process_1.log").is_file(), "there was a second process"


@pytest.mark.slow
def test_processes_of_which_the_second_is_told_to_stop_go_on_inside_the_epoch(tmp_path, image_folder):
    root = image_folder(("ants", "bees", "cows"), train=9)

    def run(name, *overrides):
        stop = f"+callbacks.stop={{_target_: callbacks.StopOnce, path: {name}-stop, epoch: 1, batch: 1, rank: 1}}"
        watched = [f"+callbacks.losses={{_target_: callbacks.StepLosses, path: {tmp_path / name}-losses}}"]
        chosen = ["trainer.max_epochs=3", "strategy=fine_tune", "+model.dropout=0.3", "model._target_=nets.tiny_net"]
        overrides = [*NET, *RUN, *chosen, f"data.root={root}", *TWO, stop, *watched, f"hydra.run.dir={name}"]
        return train(*overrides, cwd=tmp_path)

    (tmp_path / "whole-stop").touch()
    assert run("whole").returncode == 0
    stopped = run("part")
    assert stopped.returncode == 143, stopped.stderr
    assert stopped.stderr.count("stopped by SIGTERM") == 1
    assert describe_progress(tmp_path / "part" / "checkpoints" / "last.ckpt") == "after epoch 1 and 2 batches"
    resumed = train("resume=part", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert (tmp_path / "part-losses").read_text() == (tmp_path / "whole-losses").read_text()
    assert epochs(tmp_path / "part") == epochs(tmp_path / "whole")
    for name in ("last", "best"):
        whole = tensors(tmp_path / "whole", name)
        assert all(value.equal(tensors(tmp_path / "part", name)[key]) for key, value in whole.items())


@pytest.mark.slow
def test_a_loss_that_is_nan_in_the_second_process_ends_all(tmp_path, image_folder):
    poison = ["+callbacks.poison={_target_: callbacks.Poison, epoch: 2, batch: 1, rank: 1}"]
    chosen = [f"data.root={image_folder(train=9)}", *poison, *TWO, "hydra.run.dir=run"]
    done = train(*NET, *RUN[:-1], "features.views=0", *chosen, cwd=tmp_path)
    assert done.returncode == 1
    assert "the training loss is NaN or infinite at step 2 of epoch 2 with a learning rate of" in done.stderr
    assert "train/" in done.stderr, "the images of the batch"
    assert describe_progress(tmp_path / "run" / "checkpoints" / "last.ckpt") == "after epoch 1"
