"""What goes wrong in the middle of a run: one sentence with the cure, and nothing lost that was saved."""

import errno
import json
import re
import shutil
import signal
import subprocess
import time

import pytest
import torch
from command_line import TINY, TRAIN, train, with_nets
from conftest import rows

from thaw.data.datamodule import image_folders
from thaw.data.images import load_rgb
from thaw.runs.machine_faults import machine_fault
from thaw.runs.stopping import worker_deaths
from train import main


@pytest.fixture
def failed(tiny_run, tmp_path, caplog, without_pictures):
    """Runs what must end with status 1; gives back its sentence, which the summary has as well."""

    def run(*overrides, **places):
        caplog.clear()
        with pytest.raises(SystemExit) as raised:
            main(tiny_run("callbacks.last.share=1e9", *overrides, **places))
        assert raised.value.code == 1
        (told,) = [record.message for record in caplog.records if record.name == "thaw.errors"]
        summary = json.loads((tmp_path / "run/summary.json").read_text())
        assert (summary["status"], f"error: {summary['error']}") == ("failed", told)
        assert told.endswith(".") and "\n" not in told
        return told

    return run


def assert_kept(run, epochs, more=0):
    """The checkpoints that were saved after so many epochs are there, and finite."""
    last, best = (torch.load(run / f"checkpoints/{name}.ckpt", weights_only=True) for name in ("last", "best"))
    assert last["epoch"] + 1 == epochs
    assert best["epoch"] < epochs
    for checkpoint in (last, best):
        assert all(tensor.isfinite().all() for tensor in checkpoint["state_dict"].values())
    assert len(rows(run / "metrics.csv")) == epochs + more


@pytest.mark.parametrize(
    ("value", "views", "at_once"),
    [("nan", 0, True), ("inf", 2, True), ("nan", 2, False)],
    ids=["NaN, images", "infinite, features", "NaN, asked at the end of the epoch"],
)
def test_a_loss_that_is_not_finite_stops_with_its_step_its_rate_and_its_images(
    failed, image_folder, tmp_path, monkeypatch, value, views, at_once
):
    root = image_folder()
    monkeypatch.setattr("thaw.training.faults.is_single_cpu", lambda trainer: at_once)
    poison = [f"+callbacks.poison={{_target_: callbacks.Poison, epoch: 2, batch: 1, value: {value}}}"]
    told = failed(*poison, f"features.views={views}", "strategy.lr=0.125", "trainer.max_epochs=3", root=root)
    assert "the training loss is NaN or infinite at step 2 of epoch 2 with a learning rate of 0.125: " in told
    assert "lower strategy.lr" in told
    data = image_folders(root, batch_size=5)
    order = data.train_order()
    order.set_epoch(1)
    images = [data.train.paths[index] for index, _ in order][5:10]
    assert told.partition("that batch (")[2].partition("); ")[0] == ", ".join(
        path.removeprefix(f"{root}/") for path in images
    )
    assert_kept(tmp_path / "run", epochs=1)


def test_weights_that_are_not_finite_are_never_saved(failed, tmp_path):
    told = failed("+callbacks.poison={_target_: callbacks.PoisonedGradient, epoch: 2}", "trainer.max_epochs=3")
    assert told.startswith("error: the weights are no longer finite at epoch 2 with a learning rate of ")
    assert_kept(tmp_path / "run", epochs=1)


def test_a_rate_that_is_much_too_high_is_told_as_such(failed):
    assert "lower strategy.lr" in failed("strategy=fine_tune", "strategy.lr=1e30", "trainer.precision=32-true")


# A signal may interrupt torch while it opens a temporary file to count the descriptors left: nobody closes that file.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <_io:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("views", [0, 2], ids=["images", "features"])
def test_a_killed_loader_process_is_told_with_the_cure(failed, image_folder, tmp_path, views):
    killer = ["+callbacks.killer._target_=callbacks.Killer", "+callbacks.killer.epoch=2"]
    root = image_folder(train=40)
    told = failed(*killer, "data.num_workers=1", f"features.views={views}", "mix=mixup", root=root)
    assert told.startswith("error: a loader process was killed, probably because memory ran out: lower data.")
    assert f"python train.py resume={tmp_path / 'run'} resumes from it." in told
    assert_kept(tmp_path / "run", epochs=1)


def test_a_second_loader_process_that_dies_does_not_disturb_what_is_told_of_the_first():
    def raised(number, frame):
        raise RuntimeError("DataLoader worker (pid 1) is killed")

    before = signal.signal(signal.SIGCHLD, raised)
    try:
        worker_deaths.mute()
        worker_deaths.mute()
        subprocess.run(["true"], check=True)
        worker_deaths.listen()
        with pytest.raises(RuntimeError, match="DataLoader worker"):
            signal.raise_signal(signal.SIGCHLD)
    finally:
        signal.signal(signal.SIGCHLD, before)


@pytest.mark.slow
def test_a_stuck_loader_process_is_told_with_the_cure(failed, image_folder, tmp_path, monkeypatch):
    root, read = image_folder(), []

    def stuck_in_the_second_epoch(path, short_side, grey_range):
        read.append(path)  # once before the first epoch, to bring the head's features to scale
        time.sleep(1000 if path.endswith("bees/3.png") and read.count(path) == 3 else 0)
        return load_rgb(path, short_side, grey_range=grey_range)

    monkeypatch.setattr("thaw.data.folders.load_rgb", stuck_in_the_second_epoch)
    monkeypatch.setattr("thaw.data.datamodule._PATIENCE", 2)
    told = failed("data.num_workers=1", "features.views=0", "data.pixels_gb=0", root=root)
    assert told.startswith("error: a loader process sent no batch for 2 seconds: ")
    assert "data.num_workers=0" in told
    assert_kept(tmp_path / "run", epochs=1)


def command(folder, root, *overrides):
    """A whole run in a process of its own that ends badly: its status and what it says on standard error."""
    chosen = [*TINY, f"data.root={root}", "callbacks.last.share=1e9", "trainer.accelerator=cpu"]
    done = train(*chosen, f"hydra.run.dir={folder}", *overrides, cwd=root.parent)
    assert done.stderr.count("\n") == 1, done.stderr
    return done.returncode, done.stderr


@pytest.fixture
def small_disk(tmp_path):
    """A file system of so many bytes, mounted where the test can reach it."""
    mounted = []

    def mount(size):
        folder = tmp_path / "disk"
        folder.mkdir()
        options = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if not shutil.which("mount") or subprocess.run(options, capture_output=True).returncode:
            pytest.skip("this user cannot mount a file system")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_disk_that_fills_up_keeps_what_was_saved_and_the_run_goes_on_when_there_is_room(
    small_disk, image_folder, tmp_path
):
    disk, root = small_disk("30m"), image_folder()
    filler = f"+callbacks.filler={{_target_: callbacks.Filler, path: {disk / 'filler'}, epoch: 2}}"
    status, told = command(disk / "run", root, filler, "trainer.max_epochs=3")
    assert status == 1
    assert re.match(
        rf"error: {disk}/run/checkpoints/(last|best).ckpt needs \S+ MB, but only 0.0 MB are free; the checkpoint", told
    )
    assert told.endswith(f"python train.py resume={disk / 'run'} continues the run.\n")
    assert_kept(disk / "run", epochs=2, more=1)  # its checkpoint is what did not fit
    assert not list((disk / "run").rglob("*.part"))
    (disk / "filler").write_bytes(b"")
    assert train(f"resume={disk / 'run'}", cwd=tmp_path).returncode == 0
    assert len(rows(disk / "run/metrics.csv")) == 3


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_told_at_once(small_disk, image_folder, tmp_path):
    root = image_folder()
    (tmp_path / "file").write_text("not a folder")
    status, told = command(tmp_path / "file/run", root)
    assert status == 2
    assert told.startswith(f"error: the output folder {tmp_path / 'file/run'} cannot be written (Not a directory): ")
    disk = small_disk("1m")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    status, told = command(disk / "run", root)
    assert status == 2
    assert told.startswith(f"error: the output folder {disk / 'run'} cannot be written (Read-only file system): ")


def test_whatever_is_written_when_the_disk_is_full_is_told_and_no_half_file_stays(
    failed, image_folder, tmp_path, monkeypatch
):
    def full(*given, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    root = image_folder()
    for target in ("thaw.evaluation.predictions_table.whole_file", "thaw.training.callbacks.EpochTable._write"):
        with monkeypatch.context() as patch:
            patch.setattr(target, full)
            told = failed(root=root)
        assert told.startswith(f"error: the disk of {tmp_path / 'run'} is full (")
        assert not (tmp_path / "run/predictions.csv").exists()


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["deleted", "cut"])
def test_a_cache_that_is_lost_in_the_middle_of_a_run_changes_nothing(
    tiny_run, image_folder, tmp_path, monkeypatch, caplog, without_pictures, harm
):
    """Whatever has a file of it open keeps it; the next phase makes what it misses anew."""
    root = image_folder(train=40)
    loser = f"+callbacks.loser={{_target_: callbacks.CacheLoser, epoch: 2, harm: {harm}}}"
    chosen = ["strategy=lp_ft", "trainer.max_epochs=5", "features.views=2", "data.num_workers=1"]
    for folder, more in (("whole", []), ("lost", [loser])):
        monkeypatch.setenv("THAW_CACHE", str(tmp_path / f"cache-{folder}"))
        main(tiny_run(*chosen, *more, root=root, folder=folder))
    whole, lost = (
        [{**row, "seconds": ""} for row in rows(tmp_path / name / "metrics.csv")] for name in ("whole", "lost")
    )
    assert whole == lost
    assert (tmp_path / "whole/predictions.csv").read_bytes() == (tmp_path / "lost/predictions.csv").read_bytes()


@pytest.mark.slow
def test_too_little_shared_memory_is_told_with_the_cure(image_folder, tmp_path):
    root = image_folder(train=60, size=200)
    chosen = [*TINY, "data.image_size=128", "data.batch_size=60", "data.num_workers=1", "features.views=0"]
    line = " ".join([*TRAIN, *chosen, f"data.root={root}", f"hydra.run.dir={tmp_path / 'run'}"])
    namespace = ["unshare", "--mount", "sh", "-c", f"mount -t tmpfs -o size=1m tmpfs /dev/shm && exec {line}"]
    if not shutil.which("unshare") or subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("this user cannot have a file system of its own")
    done = subprocess.run(namespace, cwd=tmp_path, env=with_nets(), capture_output=True, text=True)
    assert done.returncode == 1
    (told,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "docker run --shm-size=8g" in told
    assert "data.num_workers" in told


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's "
                      "workers are out of shared memory."), "--shm-size"),
        (RuntimeError("unable to allocate shared memory(shm) for file </torch_7_1>: No space left on device (28)"),
         "--shm-size"),
        (RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"), "a loader process was killed"),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"), "is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "is full"),
        (OSError(errno.EROFS, "Read-only file system", "/x"), "/x cannot be written (Read-only file system)"),
        (ConnectionResetError("by somebody else"), None),
        (RuntimeError("something else"), None),
    ],
)  # fmt: skip
def test_words_of_libraries_are_put_in_a_sentence_with_the_cure(tmp_path, error, told):
    fault = machine_fault(error, tmp_path)
    assert (fault is None) if told is None else told in str(fault)
