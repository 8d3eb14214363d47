"""Jobs that share a GPU: which ones, and when each starts. Forks on the CPU stand in for them."""

import time

import pytest
from conftest import ROOT
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

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
    return sharing.stored_features(job)


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


def test_without_a_gpu_jobs_run_one_after_another():
    assert sharing.most_at_once() == 1


def test_the_first_job_stores_features_and_the_others_run_at_once(jobs, tmp_path, monkeypatch):
    monkeypatch.setattr(execution, "most_at_once", lambda: 3)
    monkeypatch.setattr(execution, "import_once", lambda: None)
    heads = [["strategy=feature_extractor", f"seed={seed}"] for seed in range(4)]
    planned = jobs(*heads, ["strategy=fine_tune"])

    def task(job, arguments):
        start = time.monotonic()
        time.sleep(0.5)
        (tmp_path / f"times-{job.number}").write_text(f"{start} {time.monotonic()}")

    assert execution.run_jobs(planned, task) is None
    times = [tuple(map(float, (tmp_path / f"times-{job.number}").read_text().split())) for job in planned]
    (_, first_end), *others, (last_start, _) = times
    assert first_end < min(start for start, _ in others)
    assert max(start for start, _ in others) < min(end for _, end in others), "the three of them overlap"
    assert last_start > max(end for _, end in others)
