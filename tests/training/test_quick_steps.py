"""Steps on features between two of Lightning's steps: they compute the same, and stop for the same reasons."""

import dataclasses
import json
import signal

import pytest
import torch
from conftest import rows
from resumed import epochs, tensors

from thaw.runs.stopping import stop_signals
from thaw.training import quick_steps
from train import main

HEAD = ["strategy=feature_extractor", "trainer.max_epochs=3", "features.views=2"]


@pytest.fixture
def run(tiny_run, image_folder, without_pictures):
    """Return a function that trains 8 batches an epoch, and returns the exit status."""
    photos = image_folder(train=20)

    def run(*options, folder):
        try:
            main(tiny_run(*HEAD, "callbacks.last.share=1e9", *options, root=photos, folder=folder))
        except SystemExit as stop:
            return stop.code
        return 0

    return run


@pytest.fixture
def taken(monkeypatch):
    """List the numbers of the batches that quick steps train on."""
    numbers, seed_step = [], quick_steps.seed_step

    def noted(trainer, number):
        numbers.append(number)
        seed_step(trainer, number)

    monkeypatch.setattr(quick_steps, "seed_step", noted)
    return numbers


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["+model.dropout=0.3"],
        ["optimizer=adamw", "scheduler=cosine"],
        ["features.max_gb=1e-9"],
        ["loss.label_smoothing=0.1", "data.balance=weights"],
        ["strategy.phases=[{train: head, epochs: 2}, {train: all}]"],
    ],
    ids=" ".join,
)
def test_quick_steps_compute_what_lightnings_steps_compute(run, taken, tmp_path, monkeypatch, options):
    assert run(*options, folder="quick") == 0
    head_epochs = 2 if "phases" in str(options) else 3
    assert taken == [1, 2, 3, 4, 5, 6] * head_epochs, "neither the first nor the last batch of an epoch"
    monkeypatch.setattr(quick_steps, "_suits", lambda trainer: False)
    assert run(*options, folder="lightning") == 0
    assert len(taken) == 6 * head_epochs
    assert epochs(tmp_path / "quick") == epochs(tmp_path / "lightning")
    first, second = (
        torch.load(tmp_path / f"{folder}/checkpoints/last.ckpt", weights_only=True) for folder in ("quick", "lightning")
    )
    assert first["global_step"] == second["global_step"] == 24
    assert first["loops"] == second["loops"]
    for name in ("best", "last"):
        for key, value in tensors(tmp_path / "quick", name).items():
            assert value.equal(tensors(tmp_path / "lightning", name)[key]), key


@pytest.mark.parametrize("most", [1, 2])
def test_the_number_of_quick_steps_changes_nothing(run, taken, tmp_path, monkeypatch, most):
    assert run(folder="all") == 0
    monkeypatch.setattr(quick_steps, "_MOST", most)
    assert run(folder="few") == 0
    assert epochs(tmp_path / "all") == epochs(tmp_path / "few")


def test_a_signal_during_quick_steps_stops_the_run_inside_the_epoch_and_it_goes_on_there(run, tmp_path, monkeypatch):
    assert run(folder="whole") == 0
    seed_step = quick_steps.seed_step

    def stopping(trainer, number):
        seed_step(trainer, number)
        if (trainer.current_epoch, number) == (1, 3):
            stop_signals.received = signal.SIGTERM

    with monkeypatch.context() as changed:
        changed.setattr(quick_steps, "seed_step", stopping)
        assert run(folder="part") == 143
    saved = torch.load(tmp_path / "part/checkpoints/last.ckpt", weights_only=True)
    assert saved["global_step"] == 8 + 5, "the quick step, and Lightning's after it"
    assert run(f"resume={tmp_path / 'part'}", folder="part") == 0
    assert epochs(tmp_path / "whole") == epochs(tmp_path / "part")
    for key, value in tensors(tmp_path / "whole", "best").items():
        assert value.equal(tensors(tmp_path / "part", "best")[key]), key


@pytest.mark.parametrize("at_once", [True, False], ids=["looked at in every step", "looked at every 50 steps"])
def test_a_loss_of_a_quick_step_that_is_not_finite_stops_the_run(run, tmp_path, monkeypatch, at_once):
    seed_step = quick_steps.seed_step

    def poisoning(trainer, number):
        seed_step(trainer, number)
        if (trainer.current_epoch, number) == (1, 2):
            classifier = trainer.lightning_module
            loss = lambda logits, labels: logits.sum() * float("nan")  # noqa: E731
            classifier.recipe = dataclasses.replace(classifier.recipe, loss=loss)

    monkeypatch.setattr(quick_steps, "seed_step", poisoning)
    monkeypatch.setattr("thaw.training.faults.is_single_cpu", lambda trainer: at_once)
    assert run(folder="run") == 1
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert "the training loss is NaN or infinite at step 3 of epoch 2 with a learning rate of " in summary["error"]
    assert len(rows(tmp_path / "run/metrics.csv")) == 1


@pytest.mark.parametrize(
    "options",
    [
        ["+callbacks.signals._target_=callbacks.Signals"],
        ["callbacks=ema"],
        ["+trainer.gradient_clip_val=1"],
        ["+trainer.accumulate_grad_batches=2"],
        ["callbacks.lr_monitor.logging_interval=step"],
        ["+callbacks.more={_target_: lightning.pytorch.callbacks.ModelCheckpoint, every_n_train_steps: 3}"],
        ["features.views=0"],
        ["mix=mixup"],
    ],
    ids=" ".join,
)
def test_where_each_step_needs_its_hooks_all_steps_are_lightnings(run, taken, options):
    assert run(*options, folder="run") == 0
    assert taken == []
