from types import SimpleNamespace

import pytest
import torch

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
    phase = SimpleNamespace(last=5)
    for epoch in range(5):
        trainer = SimpleNamespace(epoch=epoch, current_epoch=epoch, should_stop=False)
        checkpoint.on_train_epoch_end(trainer, SimpleNamespace(phase=phase))
    assert saved == [0, 2, 4], "the second comes too soon, so does the fourth; the last is written always"
