import pytest
import torch
from nets import tiny_net

from thaw.errors import RunError
from thaw.training.checkpoint_io import AtomicCheckpointIO
from thaw.training.trainer import digest, fit


def test_a_digest_changes_with_any_bit_of_parameters_and_statistics():
    net = tiny_net(2)
    first = digest({"bn1": net.bn1})
    assert digest({"bn1": net.bn1}) == first
    net.bn1.running_var[3] += 1e-7
    assert digest({"bn1": net.bn1}) != first


def test_a_frozen_stage_that_changes_fails_the_run():
    net = tiny_net(2)

    class Spoiler:
        fit_loop = type("Loop", (), {})()

        def fit(self, classifier, datamodule):
            net.conv1.weight.data[0, 0, 0, 0] += 1e-6

    class Classifier:
        def start(self, phase):
            self.phase = phase

        def frozen_stages(self):
            return {"conv1": net.conv1}

    phase = type("Phase", (), {"first": 0, "last": 3})()
    with pytest.raises(RunError, match="a frozen stage changed between the epochs 1 and 3"):
        fit(Spoiler(), Classifier(), [phase], data=None)


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
