import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from thaw.errors import RunError, UserError
from thaw.storage.checkpoints import read_checkpoint
from thaw.training.checkpoint_io import AtomicCheckpointIO, LastCheckpoint, MovableCheckpoint


def test_a_save_that_fails_keeps_the_checkpoint_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "best.ckpt"
    io = AtomicCheckpointIO()
    io.save_checkpoint({"epoch": 1}, path)

    def full_disk(checkpoint, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        io.save_checkpoint({"epoch": 2}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert [file.name for file in path.parent.iterdir()] == ["best.ckpt"]


def test_the_last_checkpoint_is_not_written_more_often_than_its_share_of_time_allows(tmp_path, monkeypatch):
    clock, saved = iter([0, 2, 5, 23, 24, 30, 40, 41]), []  # saving takes two seconds and then one
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    monkeypatch.setattr(MovableCheckpoint, "on_train_epoch_end", lambda self, trainer, _: saved.append(trainer.epoch))
    checkpoint = LastCheckpoint(share=0.1, dirpath=tmp_path)
    phase, alone = SimpleNamespace(last=5), SimpleNamespace(reduce_boolean_decision=lambda save, all: save)
    for epoch in range(5):
        trainer = SimpleNamespace(epoch=epoch, current_epoch=epoch, should_stop=False, strategy=alone)
        checkpoint.on_train_epoch_end(trainer, SimpleNamespace(phase=phase))
    assert saved == [0, 2, 4], "the second comes too soon, so does the fourth; the last is written always"


def test_a_process_saves_the_last_checkpoint_when_another_one_does(tmp_path, monkeypatch):
    clock, saved, asked = iter([0, 2, 3, 4]), [], []  # by its own clock, the second epoch ends too soon
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    monkeypatch.setattr(MovableCheckpoint, "on_train_epoch_end", lambda self, trainer, _: saved.append(trainer.epoch))
    checkpoint = LastCheckpoint(share=0.1, dirpath=tmp_path)
    others = SimpleNamespace(reduce_boolean_decision=lambda save, all: asked.append((save, all)) or True)
    for epoch in range(2):
        trainer = SimpleNamespace(epoch=epoch, current_epoch=epoch, should_stop=False, strategy=others)
        checkpoint.on_train_epoch_end(trainer, SimpleNamespace(phase=SimpleNamespace(last=5)))
    assert (saved, asked) == ([0, 1], [(True, False), (False, False)])


def test_a_checkpoint_that_will_not_fit_is_refused_in_a_sentence_before_anything_is_written(tmp_path, monkeypatch):
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    io = AtomicCheckpointIO()
    io.save_checkpoint({"epoch": 1}, path)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=3_000_000))
    io.save_checkpoint({"weights": torch.zeros(400_000), "rows": [{"epoch": 1}]}, path)
    with pytest.raises(RunError) as refused:
        io.save_checkpoint({"state": [{"weights": torch.zeros(1_000_000)}]}, path)
    assert str(refused.value) == (
        f"{path} needs 5.0 MB, but only 3.0 MB are free; the checkpoint saved earlier is kept. "
        f"Free some disk space; then python train.py resume={tmp_path / 'run'} continues the run."
    )
    assert torch.load(path, weights_only=True)["rows"] == [{"epoch": 1}]
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr("os.fsync", lambda descriptor: done.append(Path(f"/proc/self/fd/{descriptor}").readlink().name))
    monkeypatch.setattr("os.replace", lambda part, path: done.append("renamed"))
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, tmp_path / "last.ckpt")
    assert done == ["last.ckpt.part", "renamed", tmp_path.name]


def test_what_is_read_runs_no_code_and_comes_from_this_machine(tmp_path):
    class Malicious:
        def __reduce__(self):
            return Path.touch, (tmp_path / "touched",)

    torch.save({"state_dict": Malicious()}, tmp_path / "last.ckpt")
    for read in (read_checkpoint, lambda path: AtomicCheckpointIO().load_checkpoint(path, weights_only=False)):
        with pytest.raises(RunError, match="it is damaged, or contains Python objects"):
            read(tmp_path / "last.ckpt")
        with pytest.raises(UserError, match=r"a checkpoint=https://host/last\.ckpt is a URL"):
            read("https://host/last.ckpt")
    assert not (tmp_path / "touched").exists()


def test_checkpoints_below_a_folder_whose_name_is_not_utf_8_are_written_and_read(tmp_path):
    path = tmp_path / os.fsdecode(b"l\xe4uf") / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1, "weights": torch.ones(3)}, path)
    assert read_checkpoint(path)["weights"].equal(torch.ones(3))
