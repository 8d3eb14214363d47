"""A run and a sweep keep to folders of their own: nothing of others is removed, and two never share one."""

import json
import signal
import subprocess
import time
from contextlib import nullcontext

import pytest
from command_line import TINY, TRAIN, train, with_nets
from conftest import ROOT, rows
from filelock import FileLock
from hydra import compose, initialize_config_dir
from PIL import Image

from thaw.errors import RunError, UserError
from thaw.runs import ownership
from thaw.runs.ownership import new_folder, refuse_inside, refuse_other_results
from thaw.runs.recorded_run import recorded_run
from thaw.runs.run_folder import LEFTOVERS, hold_run_folder, is_free, refuse_interrupted, run_folder_held
from thaw.runs.summary import remove_old_results, write_summary
from thaw.runs.writable import refuse_unwritable, refuse_unwritable_file
from thaw.storage.cache import build_once, cache_dir
from thaw.storage.files import whole_file
from thaw.sweep.execution import refuse_other_folder
from thaw.sweep.own_folder import refuse_paths
from train import main

OTHERS = ["figures/mine.png", "checkpoints/mine.ckpt", "evaluation/notes.txt", "predictions.csv"]


def fill(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")


def held_by(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("check", [hold_run_folder, refuse_other_folder])
def test_a_folder_that_holds_anything_else_is_refused_and_left_as_it_is(tmp_path, check):
    fill(tmp_path, OTHERS)
    with pytest.raises(UserError, match=r"holds checkpoints, evaluation, figures, … and is not a folder of a"):
        check(tmp_path)
    assert held_by(tmp_path) == set(OTHERS)
    assert not is_free(tmp_path)


def test_a_new_run_removes_what_runs_write_and_nothing_else(tmp_path):
    own = [
        "summary.json",
        "metrics.csv",
        "checkpoints/best.ckpt",
        "checkpoints/top-3.ckpt",
    ]
    own += ["figures/samples.png", "tensorboard/events.out.tfevents.1", "evaluation/photos/evaluation.html"]
    others = {"notes.txt", "train.log", "figures/mine.png", "checkpoints/best-of-all.ckpt", "evaluation/photos/mine"}
    others |= {"checkpoints/best-v1.ckpt"}
    fill(tmp_path, [*own, *others])
    kept = 'callbacks: {best: {dirpath: ./checkpoints, filename: "top-{epoch}"}}'
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra/resolved.yaml").write_text(kept)
    assert remove_old_results(tmp_path)
    assert held_by(tmp_path) == {*others, ".hydra/resolved.yaml"}
    assert not (tmp_path / "tensorboard").exists()
    assert not remove_old_results(tmp_path)


def test_a_copy_beside_the_runs_checkpoints_is_its_users(tmp_path):
    names = [f"checkpoints/{name}.ckpt" for name in ("best-v1", "last", "best", "best-v2")]
    fill(tmp_path, names)
    (tmp_path / "summary.json").write_text(json.dumps({"status": "finished", "checkpoints": names[:2]}))
    assert remove_old_results(tmp_path)
    assert held_by(tmp_path) == set(names[2:])


@pytest.fixture
def finished(tiny_run, tmp_path):
    """The folder of a finished run, and the configuration of one that is to replace it."""
    folder = tmp_path / "run"
    fill(folder, [".hydra/resolved.yaml", "checkpoints/best.ckpt"])
    write_summary(folder, {"status": "finished"})
    return folder, tiny_run(root=tmp_path)


@pytest.mark.parametrize("fault", [UserError("weights=x is no file."), RunError("it broke."), KeyboardInterrupt()])
def test_what_a_run_replaces_is_there_until_everything_has_loaded(finished, fault):
    folder, cfg = finished
    with pytest.raises(SystemExit), recorded_run(cfg):
        raise fault
    assert held_by(folder) - {".hydra/lock"} == {".hydra/resolved.yaml", "checkpoints/best.ckpt", "summary.json"}
    assert json.loads((folder / "summary.json").read_text()) == {"status": "finished"}
    assert (folder / ".hydra/resolved.yaml").read_text() == "mine"
    with pytest.raises(SystemExit), recorded_run(cfg) as (place, _):
        assert place.take(goes_on=False)
        assert not (folder / "checkpoints").exists()
        raise fault
    assert json.loads((folder / "summary.json").read_text())["status"] in ("failed", "interrupted")


def test_relative_paths_are_refused_where_they_would_be_looked_for_in_the_runs_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for root, status in (("photos", 2), (tmp_path / "photos", None)):
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            options = ["data=image_folder", f"data.root={root}", "hydra.job.chdir=true"]
            cfg = compose("train", options, return_hydra_config=True)
        with pytest.raises(SystemExit) if status else nullcontext():
            refuse_paths(cfg)
    assert f"Give the whole path, data.root={tmp_path}/photos, or" in capsys.readouterr().err


def test_a_name_that_is_taken_gets_a_number(tmp_path):
    names = [new_folder(tmp_path / "outputs" / "now").name for _ in range(3)]
    assert names == ["now", "now-2", "now-3"]


def test_a_folder_in_which_a_run_is_at_work_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(ownership, "_PATIENCE", 0)
    spelled = tmp_path / ".." / tmp_path.name
    with run_folder_held(tmp_path), run_folder_held(spelled):  # a run and its own parts are one
        other = FileLock(tmp_path / ".hydra" / "lock")
        assert not _acquired(other)
    assert _acquired(other)
    with pytest.raises(UserError, match=r"is in use by another process.*choose another hydra\.run\.dir\."):
        hold_run_folder(tmp_path)
    other.release()


def _acquired(lock):
    try:
        lock.acquire(timeout=0)
    except TimeoutError:
        return False
    return True


def test_who_resumes_a_run_at_work_is_not_asked_to_choose_another_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(ownership, "_PATIENCE", 0)
    (tmp_path / ".hydra").mkdir()
    with FileLock(tmp_path / ".hydra" / "lock"), pytest.raises(UserError, match="wait for it, or stop it first"):
        hold_run_folder(tmp_path, resumed=True)


def test_what_systems_leave_in_a_folder_is_nobodys(tmp_path):
    fill(tmp_path, [".DS_Store", "Thumbs.db", "desktop.ini"])
    assert is_free(tmp_path)
    refuse_other_results(tmp_path, ("comparison.json",), "a comparison")
    hold_run_folder(tmp_path)
    ownership.release(tmp_path, ".hydra/lock")
    assert held_by(tmp_path) >= {".DS_Store", "Thumbs.db", "desktop.ini"}


def test_a_folder_in_which_nothing_began_is_removed(tmp_path):
    (tmp_path / "there").mkdir()
    folders = [tmp_path / name for name in ("there", "outputs/new/run", "outputs/begun", "outputs/filled")]
    for folder in folders:
        hold_run_folder(folder)
        ownership.release(folder, ".hydra/lock")
    ownership.begin_in(folders[2])
    fill(folders[3], ["mine"])
    ownership.remove_new(LEFTOVERS)
    assert [folder.exists() for folder in folders] == [True, False, True, True]
    assert not (tmp_path / "outputs/new").exists()
    assert ownership.new_folder(folders[1]) == folders[1]


def test_a_file_is_replaced_by_way_of_a_name_that_nobody_has(tmp_path):
    fill(tmp_path, ["table.csv.part", "real.csv"])
    (tmp_path / "link.csv").symlink_to("real.csv")
    for name in ("table.csv", "link.csv"):
        with whole_file(tmp_path / name) as file:
            file.write("new")
    assert (tmp_path / "table.csv.part").read_text() == "mine"
    assert (tmp_path / "link.csv").is_symlink() and (tmp_path / "real.csv").read_text() == "new"
    assert len(held_by(tmp_path)) == 4


def test_a_cache_folder_that_others_use_keeps_what_is_theirs():
    fill(cache_dir(), ["things/mine"])
    for name in "abc":
        build_once(f"things/{name}", lambda path: path.write_text(""), lambda path: True, keep=1)
    assert {name for name in held_by(cache_dir() / "things") if not name.endswith(".lock")} == {"c", "mine"}


def test_a_place_that_cannot_be_written_is_told_before_the_work(tmp_path):
    fill(tmp_path, ["file"])
    for refuse in (refuse_unwritable, refuse_unwritable_file):
        with pytest.raises(UserError, match=r"written \(Not a directory\): choose another place with --out\."):
            refuse(tmp_path / "file" / "x", "--out")
    with pytest.raises(UserError, match="Is a directory"):
        refuse_unwritable_file(tmp_path, "--out")
    refuse_unwritable(tmp_path / "new" / "folder", "--out")
    assert held_by(tmp_path) == {"file"}


@pytest.mark.slow
def test_runs_that_start_together_or_in_the_folder_of_one_at_work_do_not_mix(tmp_path, image_folder):
    options = [*TINY, f"data.root={image_folder(train=40)}", "features.views=0"]
    at_work = [*TRAIN, *options, "trainer.max_epochs=5000", "hydra.run.dir=run", "data.num_workers=1"]
    with subprocess.Popen(at_work, cwd=tmp_path, env=with_nets(), stdout=-3, stderr=-3) as process:
        short = [*TRAIN, *options, "trainer.max_epochs=1"]
        together = [subprocess.Popen(short, cwd=tmp_path, env=with_nets(), stdout=-3) for _ in range(2)]
        assert [one.wait(120) for one in together] == [0, 0]
        while not (tmp_path / "run/metrics.csv").exists() or len(rows(tmp_path / "run/metrics.csv")) < 2:
            time.sleep(0.05)
        for again in (["resume=run"], [*options, "hydra.run.dir=run"]):
            done = train(*again, cwd=tmp_path)
            assert done.returncode == 2
            assert "run is in use by another process" in done.stderr and done.stderr.count("\n") == 1
        process.send_signal(signal.SIGHUP)
    assert process.returncode == 129
    assert json.loads((tmp_path / "run/summary.json").read_text())["error"] == "stopped by SIGHUP"
    assert (tmp_path / "run/checkpoints/last.ckpt").is_file()
    folders = list((tmp_path / "outputs" / "feature_extractor").iterdir())
    assert [len(rows(folder / "metrics.csv")) for folder in folders] == [1, 1]


def test_what_would_be_replaced_is_looked_at_before_the_work(tmp_path):
    photograph, table = tmp_path / "0.png", tmp_path / "p.csv"
    Image.new("RGB", (4, 4)).save(photograph)
    own = (
        "path,predicted,confidence\n",
        '{"path": "a"}',
        "a.jpg  ant  0.9876",
        "<!doctype html>\n<title>Thaw: 3 predictions<",
    )
    for content in (*own, ""):
        table.write_text(content)
        refuse_unwritable_file(table, "--out")
    for content in ("mine", "path,label\n", "<!doctype html>\n<title>Thaw: 2 candidates"):
        table.write_text(content)
        with pytest.raises(UserError, match="a file that this command did not write"):
            refuse_unwritable_file(table, "--out")
    with pytest.raises(UserError, match=r"--gallery=.*0\.png would replace a file that is not text"):
        refuse_unwritable_file(photograph, "--gallery")
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    for name in (".hydra/resolved.yaml", "summary.json"):
        (tmp_path / "run" / name).write_text("{}")
    with pytest.raises(UserError, match="belongs to a run"):
        refuse_unwritable_file(tmp_path / "run" / "summary.json", "--out")


def test_results_go_neither_among_images_nor_beside_what_is_somebody_elses(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(UserError, match="would later read the results as a class"):
        refuse_inside(tmp_path / "photos" / "outputs", tmp_path / "photos", "hydra.run.dir")
    refuse_inside(tmp_path / "photos-2", tmp_path / "photos", "hydra.run.dir")
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(UserError, match="is not a folder of a comparison"):
        refuse_other_results(tmp_path, ("comparison.json",), "a comparison")
    (tmp_path / "comparison.json").touch()
    refuse_other_results(tmp_path, ("comparison.json",), "a comparison")


def test_a_run_that_can_go_on_is_not_replaced(tmp_path):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / "checkpoints").mkdir()
    for name in (".hydra/resolved.yaml", "checkpoints/last.ckpt"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=f"resume it with resume={tmp_path},"):
        refuse_interrupted(tmp_path)
    (tmp_path / "summary.json").write_text('{"status": "failed"}')
    refuse_interrupted(tmp_path)


def test_a_broken_training_image_leaves_the_run_before(tiny_run, tmp_path, without_pictures):
    """Also where validation images alone are features."""
    overrides = ["data.image_size=32", "features.views=auto"]
    main(tiny_run(*overrides))
    path = tmp_path / "photos/train/ants/0.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(SystemExit) as ended:
        main(tiny_run(*overrides, root=tmp_path / "photos"))
    assert ended.value.code == 1
    assert (tmp_path / "run/checkpoints/best.ckpt").is_file()
