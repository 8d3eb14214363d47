"""What a sweep plans, what it says meanwhile, and what it does when it is disturbed."""

import io
import json
import signal
import subprocess
import time

import pytest
import torch
from command_line import TINY, TRAIN, train, with_nets
from conftest import ROOT
from filelock import FileLock
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import OmegaConf
from sweeps import comparison_without_times, statuses, wait_for

from hydra_plugins.thaw_sweeper import ThawSweeper
from thaw.data.datamodule import image_folders
from thaw.errors import UserError
from thaw.runs.configuration import resolved_job
from thaw.runs.summary import write_summary
from thaw.sweep.jobs import check_jobs, plan, refuse_other_images
from thaw.sweep.progress import Progress
from thaw.sweep.recipe import add_multirun_flag


@pytest.fixture(scope="module")
def compose():
    """A job's configuration from its overrides, as Hydra's sweepers compose it."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
    return lambda overrides: loader.load_configuration("train", overrides=overrides, run_mode=RunMode.RUN)


@pytest.fixture
def kept(compose, tmp_path):
    """Writes what a run with these overrides leaves in a folder of the sweep."""

    def write(name, overrides, status=None, checkpoint=False):
        folder = tmp_path / name
        (folder / ".hydra").mkdir(parents=True)
        OmegaConf.save(resolved_job(compose(overrides)), folder / ".hydra" / "resolved.yaml")
        if status:
            write_summary(folder, {"status": status, "seconds": {"total": 60.0}, "val": {"acc": 0.9}})
        if checkpoint:
            (folder / "checkpoints").mkdir()
            (folder / "checkpoints" / "last.ckpt").touch()
        return folder

    return write


BATCH = [[f"strategy={strategy}", f"seed={seed}"] for strategy in ("lp_ft", "bias") for seed in (0, 1)]


def test_jobs_are_named_by_what_sets_them_apart_and_kept_by_number_and_strategy(compose, tmp_path):
    jobs = plan(compose, [["trainer.max_epochs=4", *overrides] for overrides in BATCH], tmp_path)
    assert [job.name for job in jobs] == ["lp_ft seed=0", "lp_ft seed=1", "bias seed=0", "bias seed=1"]
    assert [job.folder.name for job in jobs] == ["0-lp_ft", "1-lp_ft", "2-bias", "3-bias"]
    assert [job.number for job in jobs] == [1, 2, 3, 4]
    assert {job.epochs for job in jobs} == {4}
    (only,) = plan(compose, [["strategy=bias"]], tmp_path)
    assert only.name == "bias"


def test_a_finished_job_is_recognised_by_its_resolved_configuration(compose, kept, tmp_path):
    kept("0-somewhere", ["seed=1", "strategy=lp_ft", "trainer.max_epochs=10"], "finished")  # 10 is the default
    jobs = plan(compose, BATCH, tmp_path)
    assert [(job.folder.name, job.finished) for job in jobs] == [
        ("0-lp_ft", False),
        ("0-somewhere", True),
        ("2-bias", False),
        ("3-bias", False),
    ]
    assert not any(job.finished for job in plan(compose, [["trainer.max_epochs=11", *o] for o in BATCH], tmp_path))


def test_a_sweep_whose_images_were_moved_is_not_trained_anew_by_mistake(compose, kept, tmp_path):
    def job(root):
        return ["data=image_folder", f"data.root={root}"]

    kept("0", job(tmp_path / "old"), "finished")
    with pytest.raises(UserError, match=r"data\.root=.*/old .* no longer exists.* Make .*/old a link to the images"):
        plan(compose, [job(tmp_path / "new")], tmp_path)
    (tmp_path / "old").mkdir()
    assert not plan(compose, [job(tmp_path / "new")], tmp_path)[0].finished, "two sets of images may be compared"


def test_a_sweep_does_not_go_on_with_other_images_than_its_finished_jobs_had(compose, kept, tmp_path, image_folder):
    root = image_folder()
    overrides = ["data=image_folder", f"data.root={root}", "data.image_size=16"]
    folder = kept("sweep/0", overrides, "finished", checkpoint=True)
    torch.save({"data": image_folders(root, 16).fingerprint}, folder / "checkpoints" / "last.ckpt")
    jobs = plan(compose, [[*overrides, f"seed={seed}"] for seed in (0, 1)], folder.parent)
    assert [job.finished for job in jobs] == [True, False]
    refuse_other_images(jobs)
    (root / "train" / "bees" / "0.png").unlink()
    with pytest.raises(UserError, match=r"^seed=0 was trained on other images .*: the train images were 12 "):
        refuse_other_images(jobs)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("strategy.lr=-1", r"lr=-1"),
        ("data.image_size=0", r"data\.image_size=0"),
        ("data.fold=7", r"data\.fold=7"),
        ("model.name=resnet35", r"model\.name='resnet35' is unknown; the choices are"),
    ],
)
def test_the_values_of_every_job_are_checked_before_the_first_job(compose, tmp_path, wrong, sentence):
    overrides = ["data=image_folder", f"data.root={tmp_path}", "strategy=fine_tune"]
    check_jobs(plan(compose, [overrides], tmp_path))
    with pytest.raises(UserError, match=sentence):
        check_jobs(plan(compose, [overrides, [*overrides, wrong]], tmp_path))


def test_a_folder_with_another_run_is_left_alone(compose, kept, tmp_path):
    kept("0-lp_ft", ["strategy=lp_ft", "seed=7"], "finished")
    assert [job.folder.name for job in plan(compose, BATCH, tmp_path)][:2] == ["0-lp_ft-2", "1-lp_ft"]


def test_equal_jobs_are_done_once(compose, tmp_path):
    jobs = plan(compose, [["strategy=bias"], ["strategy=bias", "seed=0"], ["strategy=bias", "seed=1"]], tmp_path)
    assert [job.folder.name for job in jobs] == ["0-bias", "1-bias"]


@pytest.mark.parametrize(
    ("status", "checkpoint", "goes_on"),
    [(None, True, True), ("interrupted", True, True), ("failed", True, False), (None, False, False)],
)
def test_what_was_interrupted_goes_on_and_what_failed_starts_anew(compose, kept, tmp_path, status, checkpoint, goes_on):
    folder = kept("0-lp_ft", BATCH[0], status, checkpoint)
    job = plan(compose, BATCH, tmp_path)[0]
    assert job.arguments == [*BATCH[0], *([f"resume='{folder}'"] if goes_on else [])]


LONG = ("backbones", "folds", "label_budget", "learning_rate", "strategies")  # of many jobs
RECIPES = sorted(
    path.stem for path in (ROOT / "conf" / "sweep").glob("*.yaml") if path.stem not in ("search", "shortlist")
)


@pytest.mark.parametrize("recipe", [pytest.param(r, marks=[pytest.mark.slow] * (r in LONG)) for r in RECIPES])
def test_every_recipe_names_its_seeds_and_has_several_jobs_that_can_be_composed(compose, tmp_path, recipe):
    values = compose([f"sweep={recipe}"]).hydra.sweeper.params
    assert "seed" in values
    overrides = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in values.items()])
    (batch,) = ThawSweeper.split_arguments(overrides, None)
    assert len(plan(compose, batch, tmp_path)) == len(batch) > 3


def test_the_recipe_for_strategies_has_six_with_three_seeds(compose):
    values = compose(["sweep=strategies"]).hydra.sweeper.params
    assert values == {"strategy": "probe,feature_extractor,last_half,fine_tune,lp_ft,from_scratch", "seed": "range(3)"}


def test_a_recipe_needs_no_flag():
    assert add_multirun_flag(["sweep=seeds", "seed=1"]) == ["--multirun", "sweep=seeds", "seed=1"]
    for arguments in (["-m", "sweep=seeds"], ["sweep=seeds", "--cfg", "job"], ["seed=1"], ["sweep=null"]):
        assert add_multirun_flag(arguments) == arguments
    assert add_multirun_flag(["seed=1,2", "-m", "strategy=bias"]) == ["-m", "seed=1,2", "strategy=bias"]


@pytest.fixture
def told(monkeypatch):
    """A stream that gives what is new on it, and a clock that the test turns."""

    class Stream(io.StringIO):
        terminal = False

        def isatty(self):
            return self.terminal

        def new(self):
            text = self.getvalue()
            self.seek(0)
            self.truncate()
            return text

    stream, clock = Stream(), [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    return stream, clock


def epochs(job, accuracies):
    job.folder.mkdir(exist_ok=True)
    rows = "".join(f"{number},{accuracy},0.5,1.0\n" for number, accuracy in enumerate(accuracies, 1))
    (job.folder / "metrics.csv").write_text(f"epoch,val/acc,val/loss,seconds\n{rows}{len(accuracies) + 1},0.9")


def finished(job, accuracy):
    write_summary(job.folder, {"status": "finished", "seconds": {"total": 100.0}, "val": {"acc": accuracy}})


def test_a_sweep_tells_its_job_its_best_so_far_and_the_time_left(compose, tmp_path, told):
    stream, clock = told
    stream.terminal = True
    jobs = plan(compose, BATCH, tmp_path)
    progress = Progress(jobs, stream)
    progress.job_starts(jobs[0])
    assert stream.new() == "\r\033[Kjob 1/4 · lp_ft seed=0"
    epochs(jobs[0], [0.5, 0.75, 0.6])
    clock[0] += 30  # 10 s an epoch of ten: 100 s a job
    progress.update(jobs[0])
    assert stream.new() == "\r\033[Kjob 1/4 · lp_ft seed=0 · epoch 3/10 · val/acc so far 0.7500 · 6 min 10 s left"
    clock[0] += 70
    finished(jobs[0], 0.75)
    progress.job_ends(jobs[0])
    assert stream.new() == "\r\033[Kjob 1/4 · lp_ft seed=0 · val/acc 0.7500 · 1 min 40 s · 5 min 00 s left\n"


@pytest.mark.slow
def test_the_time_left_follows_the_jobs_of_the_same_strategy(compose, kept, tmp_path, told):
    stream, clock = told
    for number, overrides in enumerate(BATCH[:3]):
        kept(str(number), overrides, "finished")  # 60 s each
    jobs = plan(compose, [*BATCH, ["strategy=lp_ft", "seed=2"]], tmp_path)
    write_summary(jobs[2].folder, {"status": "finished", "seconds": {"total": 600.0}})
    progress = Progress(jobs, stream)
    progress.print_jobs(tmp_path)
    assert stream.new() == f"5 jobs in {tmp_path}, 3 of them done before\n"
    progress.job_starts(jobs[3])
    clock[0] += 60
    progress.update(jobs[3])
    assert stream.new() == "job 4/5 · bias seed=1 · 10 min 00 s left\n"  # 540 s of this one, 60 s of lp_ft
    progress.update(jobs[3])
    assert stream.new() == "", "a file is told now and then"
    clock[0] += 600
    progress.update(jobs[3])
    assert stream.new() == "job 4/5 · bias seed=1\n", "longer than the jobs before: nothing says how long"
    epochs(jobs[3], [0.5] * 5)
    clock[0] += 60
    progress.update(jobs[3])
    assert stream.new() == "job 4/5 · bias seed=1 · epoch 5/10 · val/acc so far 0.5000 · 13 min 00 s left\n"


SWEEP = [*TINY, "trainer.max_epochs=3", "hydra.sweep.dir=sweep", "seed=0,1"]


@pytest.mark.slow
def test_a_sweep_goes_on_after_a_job_that_fails_and_tries_that_again(tmp_path, image_folder):
    overrides = ["-m", "strategy=layer3_layer4,bias", *SWEEP, f"data.root={image_folder()}"]
    done = train(*overrides, cwd=tmp_path)
    assert done.returncode == 1
    told = "a phase trains 'layer3', which resnet34 does not have"
    assert f"error: layer3_layer4 seed=0: strategy=layer3_layer4: {told}" in done.stderr
    assert "2 of 4 jobs failed" in done.stderr
    expected = {"0-layer3_layer4": "failed", "1-layer3_layer4": "failed", "2-bias": "finished", "3-bias": "finished"}
    assert statuses(tmp_path / "sweep") == expected
    failures = json.loads((tmp_path / "sweep" / "comparison.json").read_text())["failures"]
    assert [told in failure["error"] for failure in failures] == [True, True]
    assert all((tmp_path / "sweep" / f"{job}-layer3_layer4" / "traceback.txt").is_file() for job in (0, 1))
    again = train(*overrides, cwd=tmp_path)
    assert again.returncode == 1
    assert "4 jobs in sweep, 2 of them done before" in again.stdout
    assert again.stdout.count("· failed") == 2


@pytest.mark.slow
def test_a_stopped_sweep_goes_on_with_the_same_command(tmp_path, image_folder):
    overrides = ["-m", *SWEEP, f"data.root={image_folder(train=40)}", "strategy=bias", "trainer.max_epochs=25"]
    with subprocess.Popen(
        [*TRAIN, *overrides], cwd=tmp_path, env=with_nets(), stderr=-1, stdout=-3, text=True
    ) as process:
        wait_for(lambda: lines(tmp_path / "sweep" / "0-bias" / "metrics.csv") > 5)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert "stopped by SIGINT, 0 of 2 jobs done. To resume, add" in process.stderr.read()
    assert statuses(tmp_path / "sweep") == {"0-bias": "interrupted"}
    done = train(*overrides, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(statuses(tmp_path / "sweep").values()) == {"finished"}
    assert "continued after epoch" in (tmp_path / "sweep" / "0-bias" / "train.log").read_text()
    assert lines(tmp_path / "sweep" / "0-bias" / "metrics.csv") == 26


@pytest.mark.slow
def test_a_sweep_that_is_killed_loses_at_most_the_job_at_work(tmp_path, image_folder):
    overrides = ["-m", "strategy=bias,from_scratch", *SWEEP, f"data.root={image_folder()}"]
    with subprocess.Popen([*TRAIN, *overrides], cwd=tmp_path, env=with_nets(), stdout=-3) as process:
        wait_for(lambda: (tmp_path / "sweep" / "2-from_scratch" / ".hydra" / "resolved.yaml").exists())
        process.kill()
    before = [
        (tmp_path / "sweep" / f"{number}").with_name(name) for number, name in enumerate(statuses(tmp_path / "sweep"))
    ]
    times = {folder: (folder / "summary.json").stat().st_mtime_ns for folder in before}
    assert len(times) == 2
    done = train(*overrides, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "4 jobs in sweep, 2 of them done before" in done.stdout
    assert times == {folder: (folder / "summary.json").stat().st_mtime_ns for folder in before}
    unbroken = train(*overrides, "hydra.sweep.dir=unbroken", cwd=tmp_path)
    assert unbroken.returncode == 0, unbroken.stderr
    one, other = (comparison_without_times(tmp_path / name) for name in ("sweep", "unbroken"))
    assert one == other


@pytest.mark.slow
def test_a_folder_belongs_to_one_sweep_at_a_time(tmp_path, image_folder):
    (tmp_path / "sweep").mkdir()
    with FileLock(tmp_path / "sweep" / ".lock"):
        done = train("-m", *SWEEP, f"data.root={image_folder()}", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: sweep is in use by another process, which trains there: ")
    assert "hydra.sweep.dir" in done.stderr and done.stderr.count("\n") == 1


def lines(path):
    return len(path.read_text().splitlines()) if path.exists() else 0
