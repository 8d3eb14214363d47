"""Of epochs with equal accuracy the one with the lower loss is kept, also by a run that goes on."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import rows

from thaw.errors import UserError
from thaw.inference.run_checkpoint import checkpoint_path
from thaw.runs.summary import write_summary
from thaw.training.best import BestCheckpoint, epoch_score
from train import main

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
    assert epoch_score(worst, "val/acc") < epoch_score(other, "val/acc")


def path_of(checkpoint, number):
    return str(Path(checkpoint.dirpath) / f"{number}.ckpt")


@pytest.mark.parametrize(("most", "left", "best"), [(2, {2, 3}, 2), (3, {1, 2, 3}, 2), (-1, {0, 1, 2, 3, 4}, 2)])
def test_of_several_that_are_kept_losses_decide_between_ties(tmp_path, monkeypatch, most, left, best):
    checkpoint = BestCheckpoint(dirpath=tmp_path, filename="best", monitor="val/acc", save_top_k=most)
    monkeypatch.setattr(checkpoint, "_save_checkpoint", lambda trainer, path: None)
    monkeypatch.setattr(checkpoint, "_should_remove_checkpoint", lambda *rest: False)
    for number, (acc, loss) in enumerate(EPOCHS):
        metrics = {"val/acc": torch.tensor(acc), "val/loss": torch.tensor(loss)}
        trainer = SimpleNamespace(callback_metrics=metrics, strategy=SimpleNamespace(reduce_boolean_decision=bool))
        monkeypatch.setattr(
            checkpoint, "_get_metric_interpolated_filepath_name", lambda *rest, n=number: path_of(checkpoint, n)
        )
        checkpoint._save_monitor_checkpoint(trainer, {**metrics, "epoch": torch.tensor(0), "step": torch.tensor(0)})
    assert set(checkpoint.best_k_models) == {path_of(checkpoint, number) for number in left}
    assert checkpoint.best_model_path == path_of(checkpoint, best)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"monitor": "val/loss"}, r"callbacks\.best\.monitor=val/loss needs callbacks\.best\.mode=min"),
        ({"monitor": "val/acc", "mode": "min"}, r"needs callbacks\.best\.mode=max"),
        ({"monitor": "val/acc", "save_top_k": 0}, r"save_top_k=0 saves no weights"),
    ],
)
def test_what_would_keep_the_worst_epoch_or_none_is_refused(tmp_path, options, told):
    with pytest.raises(UserError, match=told):
        BestCheckpoint(dirpath=tmp_path, **options)
    BestCheckpoint(dirpath=tmp_path, monitor="my/distance", mode="min")


def test_a_run_is_used_by_the_weights_that_its_summary_names(tmp_path):
    run = tmp_path / "runs" / "one"
    (run / "checkpoints").mkdir(parents=True)
    for name in ("best.ckpt", "best-v2.ckpt"):
        (run / "checkpoints" / name).touch()
    assert checkpoint_path(run) == run / "checkpoints" / "best.ckpt", "of a run that does not say it"
    write_summary(run, {"status": "finished", "checkpoint": "checkpoints/best-v2.ckpt"})
    assert checkpoint_path(run) == run / "checkpoints" / "best-v2.ckpt"
    with pytest.raises(UserError, match=r"holds 1 runs; choose one of"):
        checkpoint_path(run.parent)
    (run / "checkpoints" / "best-v2.ckpt").unlink()
    with pytest.raises(UserError, match=r"names checkpoints/best-v2\.ckpt as the best weights, .* is missing"):
        checkpoint_path(run)


def test_a_run_that_was_killed_says_by_its_last_checkpoint_which_is_the_best(tmp_path):
    before = tmp_path / "where it was" / "checkpoints"
    here = tmp_path / "moved" / "checkpoints"
    here.mkdir(parents=True)
    (here / "acc=0.9.ckpt").touch()
    state = {"monitor": "val/acc", "best_model_path": str(before / "acc=0.9.ckpt"), "dirpath": str(before)}
    torch.save({"callbacks": {"Bar": {}, "Best": state}}, here / "last.ckpt")
    assert checkpoint_path(tmp_path / "moved") == here / "acc=0.9.ckpt"
    (here / "last.ckpt").unlink()
    with pytest.raises(UserError, match=r"name the file: .*acc=0\.9\.ckpt\."):
        checkpoint_path(tmp_path / "moved")


@pytest.mark.parametrize(
    "options",
    [
        ["+callbacks.best.save_top_k=3"],
        pytest.param(["callbacks.best.filename='by-{epoch}'", "strategy.lr=1"], marks=pytest.mark.slow),
        pytest.param(["callbacks.best.monitor=val/loss", "callbacks.best.mode=min"], marks=pytest.mark.slow),
    ],
)
def test_the_summary_is_of_the_file_and_the_epoch_that_it_names(tiny_run, tmp_path, without_pictures, options):
    main(tiny_run("strategy=fine_tune", "trainer.max_epochs=4", *options))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    row = rows(tmp_path / "run" / "metrics.csv")[summary["best_epoch"] - 1]
    assert float(row["val/acc"]) == pytest.approx(summary["val"]["acc"])
    assert float(row["val/loss"]) == pytest.approx(summary["val"]["loss"], rel=1e-4)
    used = torch.load(checkpoint_path(tmp_path / "run"), weights_only=True)
    assert used["epoch"] + 1 == summary["best_epoch"]
    assert "temperature" in used["thaw"]
