"""A run that is told to stop inside an epoch goes on there as if it had not been."""

import json
import signal

import nets
import pytest
from test_resume import STRATEGY, epochs, tensors

from thaw.training.trainer import last_checkpoint, told_progress
from train import main

EPOCHS = 6
STEPS = 4  # of an epoch: twelve images in batches of three
RECIPE = ["+model.dropout=0.3", f"trainer.max_epochs={EPOCHS}", "data.batch_size=3", "callbacks.last.share=1e9"]
SIGNALS = "+callbacks.signals._target_=nets.Signals"
# A place of each kind, in every phase; what comes with the last step of an epoch is told before its validation.
PLACES = [
    (("train", 0, 0), "after epoch 0 and 1 batches"),
    (("train", 0, 2), "after epoch 0 and 3 batches"),
    (("train", 0, 3), "after epoch 0 and 4 batches"),
    (("validation", 1, 0), "after epoch 2"),
    (("train", 2, 1), "after epoch 2 and 2 batches"),
    (("train", 3, 3), "after epoch 3 and 4 batches"),
    (("epoch end", 3, 0), "after epoch 4"),
    (("train", 4, 0), "after epoch 4 and 1 batches"),
    (("train", 5, 3), "after epoch 5 and 4 batches"),
    (("validation", 5, 0), "after epoch 6"),
    (("predict", 0, 0), "after epoch 6"),
]


@pytest.fixture
def run(tiny_run, image_folder, tmp_path, without_pictures, monkeypatch):
    """Runs in `folder` until a signal comes at `place`, if there is one; gives back the exit status."""
    photos = image_folder()

    def main_until(place, *options, folder, number=signal.SIGTERM, resume=False):
        monkeypatch.setattr(nets.Signals, "places", [place])
        monkeypatch.setattr(nets.Signals, "number", number)
        again = [f"resume={tmp_path / folder}"] if resume else []
        try:
            main(tiny_run(*STRATEGY, *RECIPE, SIGNALS, *options, *again, root=photos, folder=folder))
        except SystemExit as stop:
            return stop.code
        return 0

    return main_until


def status(folder):
    return json.loads((folder / "summary.json").read_text())["status"]


def assert_equal_runs(part, whole):
    assert epochs(part) == epochs(whole)
    for name in ("last", "best"):
        for key, value in tensors(whole, name).items():
            assert value.equal(tensors(part, name)[key]), (name, key)
    assert (part / "predictions.csv").read_text() == (whole / "predictions.csv").read_text()


@pytest.mark.parametrize(
    "options",
    [
        ["features.views=0", "scheduler.step_size=1", "scheduler.gamma=0.5"],
        ["features.views=2"],
        pytest.param(["features.views=0", "data.num_workers=1", "data.balance=sampler"], marks=pytest.mark.slow),
        pytest.param(["optimizer=adamw", "scheduler=cosine", "mix=mixup"], marks=pytest.mark.slow),
        pytest.param(["callbacks=[default,ema]", "callbacks.ema.decay=0.5"], marks=pytest.mark.slow),
    ],
    ids=["images", "features", "workers", "AdamW, cosine and mixup", "averaged weights"],
)
def test_a_run_stopped_at_many_steps_and_continued_is_the_run_that_was_not(run, tmp_path, options):
    whole, part = tmp_path / "whole", tmp_path / "part"
    assert run(None, *options, folder="whole") == 0
    for number, (place, told) in enumerate(PLACES):
        assert run(place, *options, folder="part", resume=number > 0) == 143, place
        assert status(part) == "interrupted"
        assert told_progress(last_checkpoint(part)) == told, place
    assert run(None, *options, folder="part", resume=True) == 0
    assert status(part) == "finished"
    assert_equal_runs(part, whole)


def test_ctrl_c_stops_after_the_step_with_status_130(run, tmp_path):
    assert run(("train", 1, 1), folder="part", number=signal.SIGINT) == 130
    assert told_progress(last_checkpoint(tmp_path / "part")) == "after epoch 1 and 2 batches"
