"""What goes wrong in the middle of a run: one sentence with the cure, and nothing lost that was saved."""

import json

import pytest
import torch
from conftest import rows

from thaw.data.datamodule import ImageFolderDataModule
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


def assert_kept(run, epochs):
    """The checkpoints that were saved after so many epochs are there, and finite."""
    last, best = (torch.load(run / f"checkpoints/{name}.ckpt", weights_only=True) for name in ("last", "best"))
    assert last["epoch"] + 1 == epochs
    assert best["epoch"] < epochs
    for checkpoint in (last, best):
        assert all(tensor.isfinite().all() for tensor in checkpoint["state_dict"].values())
    assert len(rows(run / "metrics.csv")) == epochs


@pytest.mark.parametrize(
    ("value", "views", "at_once"),
    [("nan", 0, True), ("inf", 2, True), ("nan", 2, False)],
    ids=["NaN, images", "infinite, features", "NaN, asked at the end of the epoch"],
)
def test_a_loss_that_is_not_finite_stops_with_its_step_its_rate_and_its_images(
    failed, image_folder, tmp_path, monkeypatch, value, views, at_once
):
    root = image_folder()
    monkeypatch.setattr("thaw.training.faults._answers_at_once", lambda trainer: at_once)
    poison = [f"+callbacks.poison={{_target_: nets.Poison, epoch: 2, batch: 1, value: {value}}}"]
    told = failed(*poison, f"features.views={views}", "strategy.lr=0.125", "trainer.max_epochs=3", root=root)
    assert "the training loss is NaN or infinite at step 2 of epoch 2 with a learning rate of 0.125: " in told
    assert "lower strategy.lr" in told
    data = ImageFolderDataModule(root, batch_size=5)
    order = data.train_order()
    order.set_epoch(1)
    images = [data.train.paths[index] for index, _ in order][5:10]
    assert told.partition("that batch, ")[2].partition("; ")[0] == ", ".join(
        path.removeprefix(f"{root}/") for path in images
    )
    assert_kept(tmp_path / "run", epochs=1)


def test_weights_that_are_not_finite_are_never_saved(failed, tmp_path):
    told = failed("+callbacks.poison={_target_: nets.PoisonedGradient, epoch: 2}", "trainer.max_epochs=3")
    assert told.startswith("error: the weights are no longer finite at epoch 2 with a learning rate of ")
    assert_kept(tmp_path / "run", epochs=1)


def test_a_rate_that_is_much_too_high_is_told_as_such(failed):
    assert "lower strategy.lr" in failed("strategy=fine_tune", "strategy.lr=1e30", "trainer.precision=32-true")
