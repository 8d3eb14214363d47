"""Of epochs with equal accuracy the one with the lower loss is kept, also by a run that goes on."""

from types import SimpleNamespace

import pytest
import torch

from thaw.training.best import BestCheckpoint, rank

EPOCHS = [(0.5, 0.9), (0.75, 0.6), (0.75, 0.4), (0.75, 0.5), (0.5, 0.1)]


def kept(checkpoint, epochs, monkeypatch):
    """The numbers of the epochs at which `checkpoint` is written."""
    saved = []
    monkeypatch.setattr(checkpoint, "_save_checkpoint", lambda trainer, path: saved.append(trainer.epoch))
    monkeypatch.setattr(checkpoint, "_should_remove_checkpoint", lambda *rest: False)
    for number, (acc, loss) in enumerate(epochs):
        metrics = {"val/acc": torch.tensor(acc), "val/loss": torch.tensor(loss)}
        strategy = SimpleNamespace(reduce_boolean_decision=bool)
        trainer = SimpleNamespace(epoch=number, callback_metrics=metrics, strategy=strategy)
        given = {**metrics, "epoch": torch.tensor(number), "step": torch.tensor(number)}
        monkeypatch.setattr(checkpoint, "_get_metric_interpolated_filepath_name", lambda *rest: "best.ckpt")
        checkpoint._save_monitor_checkpoint(trainer, given)
    return saved


@pytest.fixture
def checkpoint(tmp_path):
    return BestCheckpoint(dirpath=tmp_path, filename="best", monitor="val/acc", mode="max")


def test_a_tie_is_decided_by_the_loss(checkpoint, monkeypatch):
    assert kept(checkpoint, EPOCHS, monkeypatch) == [0, 1, 2]


def test_a_run_that_goes_on_knows_the_loss_of_its_best_epoch(checkpoint, tmp_path, monkeypatch):
    kept(checkpoint, EPOCHS[:3], monkeypatch)
    again = BestCheckpoint(dirpath=tmp_path, filename="best", monitor="val/acc", mode="max")
    again.load_state_dict(checkpoint.state_dict())
    assert kept(again, [*EPOCHS[3:], (0.75, 0.3)], monkeypatch) == [2]


def test_a_loss_that_is_no_number_never_wins():
    worst, other = ({"val/acc": 0.5, "val/loss": loss} for loss in (float("nan"), 9.0))
    assert rank(worst) < rank(other)
