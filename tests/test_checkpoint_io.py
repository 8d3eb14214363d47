import pytest
import torch

from thaw.training.checkpoint_io import AtomicCheckpointIO


def test_a_save_that_fails_keeps_the_checkpoint_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "best.ckpt"
    io = AtomicCheckpointIO()
    io.save_checkpoint({"epoch": 1}, path)

    def full_disk(checkpoint, file):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        io.save_checkpoint({"epoch": 2}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert [file.name for file in path.parent.iterdir()] == ["best.ckpt"]
