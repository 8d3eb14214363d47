"""Jobs that share a GPU: which ones, and when each starts. Forks on the CPU stand in for them."""

import subprocess
import time

import pytest
from command_line import TINY, TRAIN, with_nets
from conftest import ROOT, rows
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from thaw.errors import UserError
from thaw.sweep import execution, sharing
from thaw.sweep.jobs import plan


@pytest.fixture
def jobs(tmp_path):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()

    def compose(overrides):
        photos = ["data=image_folder", "data.root=photos"]
        return loader.load_configuration("train", overrides=[*photos, *overrides], run_mode=RunMode.RUN)

    return lambda *batch: plan(compose, batch, tmp_path)


def stored(jobs, *overrides):
    (job,) = jobs(list(overrides))
    return sharing.shared_features(job)


@pytest.mark.parametrize(
    "overrides",
    [
        ["strategy=fine_tune"],
        ["strategy=lp_ft"],
        ["strategy=feature_extractor", "mix=mixup"],
        ["strategy=feature_extractor", "features.views=0"],
        ["strategy=feature_extractor", "trainer.accelerator=cpu"],
        ["strategy=feature_extractor", "trainer=ddp"],
    ],
)
def test_a_job_that_needs_the_gpu_for_itself_does_not_share_it(jobs, overrides):
    assert stored(jobs, *overrides) is None


def test_jobs_share_it_if_their_features_are_the_same(jobs):
    first = stored(jobs, "strategy=feature_extractor")
    assert first is not None
    for same in (["seed=1"], ["strategy.lr=0.1"], ["data.batch_size=8"], ["optimizer=adamw"]):
        assert stored(jobs, "strategy=feature_extractor", *same) == first
    for other in (["model=resnet18"], ["data.image_size=64"], ["weights=none"], ["features.views=3"]):
        assert stored(jobs, "strategy=feature_extractor", *other) not in (first, None)


def test_without_a_gpu_jobs_run_one_after_another(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert sharing.most_at_once() == 1


@pytest.mark.parametrize(
    ("free", "cores", "most"),
    [
        ("81000, Default", 16, 16),
        ("9000, Default", 16, 2),
        ("100, Default", 16, 1),
        ("81000, Exclusive_Process", 16, 1),
        ("No devices were found", 16, 1),
    ],
)
def test_cores_and_free_memory_limit_the_jobs_on_a_gpu(tmp_path, monkeypatch, free, cores, most):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\necho '{free}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sharing, "usable_cores", lambda: cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert sharing.most_at_once() == most
    assert sharing.most_at_once(3) == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert sharing.most_at_once() == 1, "another program divides the cores"


def test_fewer_jobs_than_one_are_refused():
    with pytest.raises(UserError, match=r"hydra\.sweeper\.max_batch_size=0"):
        sharing.most_at_once(0)


def test_jobs_on_the_same_features_run_at_the_same_time_and_others_alone(jobs, tmp_path, monkeypatch):
    monkeypatch.setattr(execution, "import_once", lambda: None)
    heads = [["strategy=feature_extractor", f"seed={seed}"] for seed in range(4)]
    planned = jobs(*heads, ["strategy=fine_tune"])

    def task(job, arguments):
        start = time.monotonic()
        time.sleep(1)
        (tmp_path / f"times-{job.number}").write_text(f"{start} {time.monotonic()}")

    assert execution.run_jobs(planned, task, at_once=3) is None
    times = [tuple(map(float, (tmp_path / f"times-{job.number}").read_text().split())) for job in planned]
    *heads, (last_start, _) = times
    ends, starts = (sorted(pair[place] for pair in heads) for place in (1, 0))
    assert starts[2] < ends[0] <= starts[3], "three of them overlap, and the fourth starts when one has ended"
    assert last_start >= ends[-1]


@pytest.mark.slow
def test_jobs_that_run_at_the_same_time_end_as_one_after_another(tmp_path, image_folder):
    root = image_folder()
    for folder, at_once in (("together", 3), ("alone", 1)):
        sweep = ["-m", "strategy=feature_extractor", "seed=0,1,2", f"hydra.sweep.dir={folder}"]
        command = [*TRAIN, *TINY, *sweep, f"data.root={root}", f"hydra.sweeper.max_batch_size={at_once}"]
        done = subprocess.run(command, cwd=tmp_path, env=with_nets(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "job 3/3" in done.stdout
    for number in range(3):
        together, alone = (
            rows(tmp_path / f"{folder}/{number}-feature_extractor/metrics.csv") for folder in ("together", "alone")
        )
        assert [float(row["val/loss"]) for row in together] == pytest.approx(
            [float(row["val/loss"]) for row in alone], rel=1e-3
        )
