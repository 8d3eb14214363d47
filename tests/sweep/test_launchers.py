"""Sweeps through Hydra's launchers end as those that run one job after another."""

import importlib
import json
import os
import shutil
import signal
import subprocess

import pytest
from command_line import TINY, TRAIN, train, with_nets
from conftest import ROOT
from hydra import compose, initialize_config_dir
from sweeps import comparison_without_times, statuses, wait_for

from thaw.sweep.launched import threads_each


def launcher(name):
    plugin = "hydra_plugins.hydra_joblib_launcher" if name == "joblib" else "hydra_plugins.hydra_submitit_launcher"
    return pytest.param(
        f"hydra/launcher={name}",
        marks=pytest.mark.skipif(importlib.util.find_spec(plugin) is None, reason="needs pip install thaw[launchers]"),
        id=name,
    )


LOCAL = [launcher("joblib"), launcher("submitit_local")]
FOUR = ["-m", *TINY, "trainer.max_epochs=2", "strategy=layer3_layer4,bias", "seed=0,1"]  # of which the first two fail


@pytest.mark.slow
def test_a_launched_sweep_ends_in_the_page_of_a_serial_one_and_shares_the_cores(tmp_path, image_folder):
    for plugin in ("joblib", "submitit"):
        pytest.importorskip(f"hydra_plugins.hydra_{plugin}_launcher", reason="needs pip install thaw[launchers]")

    def run(name, *how, **environment):
        threads = f"+callbacks.threads={{_target_: callbacks.Threads, folder: {tmp_path / 'threads'}}}"
        command = [*TRAIN, *FOUR, f"data.root={photos}", threads, *how, f"hydra.sweep.dir={name}"]
        two = lambda: os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])  # noqa: E731
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, preexec_fn=two)
        assert done.returncode == 1
        assert "error: layer3_layer4 seed=0: strategy=layer3_layer4: a phase trains 'layer3'" in done.stderr
        assert "2 of 4 jobs failed" in done.stderr

    photos = image_folder()
    undivided = with_nets()
    undivided.pop("OMP_NUM_THREADS")
    run("serial", **with_nets(OMP_NUM_THREADS="1"))
    for name, at_once in (("joblib", ["hydra.launcher.n_jobs=2"]), ("submitit_local", [])):
        shutil.rmtree(tmp_path / "threads")
        run(name, f"hydra/launcher={name}", *at_once, **undivided)
        expected = {f"{n}-layer3_layer4": "failed" for n in (0, 1)} | {f"{n}-bias": "finished" for n in (2, 3)}
        assert statuses(tmp_path / name) == expected
        assert {path.parent.name for path in (tmp_path / name).glob("*/console.log")} == set(list(expected)[:2])
        assert comparison_without_times(tmp_path / name) == comparison_without_times(tmp_path / "serial")
        assert [path.name for path in (tmp_path / "threads").iterdir()] == ["1"], "of two cores each job has one"


@pytest.mark.parametrize(("at_once", "each"), [(4, 4), (5, 3), (32, 1), (-1, 1)])
def test_jobs_share_the_cores_unless_the_environment_says_how(monkeypatch, at_once, each):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert threads_each(16, at_once) == each
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads_each(16, at_once) is None


@pytest.mark.slow
@pytest.mark.parametrize("chosen", LOCAL[1:])
def test_a_preempted_job_goes_on_in_its_own_folder(tmp_path, image_folder, chosen):
    sweep = ["-m", *TINY, "strategy=bias", "seed=0", f"data.root={image_folder(train=40)}", "trainer.max_epochs=25"]
    run = tmp_path / "sweep" / "0-bias"
    with subprocess.Popen(
        [*TRAIN, *sweep, chosen, "hydra.sweep.dir=sweep"],
        cwd=tmp_path,
        env=with_nets(),
        stderr=-1,
        stdout=-3,
        text=True,
    ) as process:
        wait_for(lambda: (run / "checkpoints" / "last.ckpt").is_file())
        os.kill(task_of(process.pid), signal.SIGUSR2)  # as SLURM does where the machine is needed otherwise
        errors = process.communicate(timeout=120)[1]
    assert process.returncode == 0, errors
    assert json.loads((run / "summary.json").read_text())["status"] == "finished"
    assert "continued after epoch" in (run / "train.log").read_text()
    assert len((run / "metrics.csv").read_text().splitlines()) == 26


def task_of(pid):
    """The process that trains, started by the one that submitit has put in charge of it."""
    controller = int(subprocess.check_output(["pgrep", "-P", str(pid), "-f", "submitit.local"]))
    return int(subprocess.check_output(["pgrep", "-P", str(controller)]))


@pytest.mark.slow
@pytest.mark.parametrize("chosen", LOCAL)
def test_several_processes_a_job_are_refused_with_the_way_to_have_them(tmp_path, image_folder, chosen):
    devices = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    done = train(*FOUR, f"data.root={image_folder()}", *devices, chosen, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: trainer.strategy=ddp starts processes, which fails within hydra/launcher=")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("chosen", [launcher("submitit_slurm")])
def test_a_sweep_for_slurm_composes(chosen):
    machines = ["hydra.launcher.tasks_per_node=4", "hydra.launcher.gpus_per_node=4", "hydra.launcher.partition=gpu"]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", [chosen, *machines, "trainer=ddp", "trainer.devices=4"], return_hydra_config=True)
    assert cfg.hydra.launcher._target_.endswith("SlurmLauncher")
    assert (cfg.hydra.launcher.partition, cfg.hydra.launcher.tasks_per_node, cfg.trainer.devices) == ("gpu", 4, 4)


@pytest.mark.parametrize(
    "variables",
    [
        {"RANK": "1"},
        pytest.param({"TORCHELASTIC_RUN_ID": "none", "RANK": "0"}, marks=pytest.mark.slow),
        pytest.param({"SLURM_PROCID": "3"}, marks=pytest.mark.slow),
    ],
)
def test_a_sweep_is_started_once(tmp_path, variables):
    done = train(*FOUR, "data.root=photos", cwd=tmp_path, **variables)
    assert done.returncode == 2
    assert done.stderr.startswith("error: torchrun and srun start a single run: start a sweep without them")
    assert not (tmp_path / "outputs").exists()
