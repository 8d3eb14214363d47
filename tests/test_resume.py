"""A run that was stopped after any epoch goes on as if it had not been."""

import pytest
import torch
from conftest import rows

from train import main

EPOCHS = 6
STRATEGY = [
    "strategy.phases=[{train: head, epochs: 2}, {train: layer1, epochs: 2, lr: 0.05}, {train: all, lr_decay: 0.5}]",
    "strategy.lr=0.1",
]


def epochs(folder):
    return [{**row, "seconds": ""} for row in rows(folder / "metrics.csv")]


def tensors(folder, name):
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


@pytest.mark.parametrize(
    ("recipe", "stops"),
    [
        (["scheduler.step_size=1", "scheduler.gamma=0.5"], range(1, EPOCHS + 1)),
        (["optimizer=adamw", "scheduler=cosine"], [1, 4]),
        (["callbacks=[default,ema]", "callbacks.ema.decay=0.5"], [1, 4]),
    ],
    ids=["SGD and StepLR", "AdamW and cosine", "averaged weights"],
)
def test_a_run_stopped_after_any_epoch_and_continued_is_the_run_that_was_not(tiny_run, tmp_path, recipe, stops):
    chosen = [*STRATEGY, *recipe, "+model.dropout=0.3", f"trainer.max_epochs={EPOCHS}"]
    whole = tmp_path / "run"
    main(tiny_run(*chosen, "+callbacks.kept._target_=nets.Snapshots", f"+callbacks.kept.folder={whole}"))
    expected = epochs(whole)
    assert [row["phase"] for row in expected] == list("112233")
    for stopped_after in stops:
        part = tmp_path / f"run-{stopped_after}"
        assert len(epochs(part)) == stopped_after
        with (part / "metrics.csv").open("a") as file:
            file.write("a row of an epoch whose checkpoint was never written\n")
        main(tiny_run(*chosen, f"resume={part}", root=tmp_path / "photos", folder=part.name))
        assert epochs(part) == expected
        for name in ("last", "best"):
            for key, value in tensors(whole, name).items():
                assert value.equal(tensors(part, name)[key]), (stopped_after, name, key)
        assert (part / "predictions.csv").read_text() == (whole / "predictions.csv").read_text()
