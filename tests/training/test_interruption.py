"""A run that is told to stop inside an epoch goes on there as if it had not been."""

import json
import os
import shutil
import signal
from collections import OrderedDict

import callbacks
import pytest
import torch
from omegaconf import OmegaConf
from resumed import STRATEGY, epochs, tensors

from thaw.training.interruption import RunTimer
from thaw.training.trainer import describe_progress, last_checkpoint
from train import main

EPOCHS = 6
STEPS = 4  # of an epoch: twelve images in batches of three
RECIPE = ["+model.dropout=0.3", f"trainer.max_epochs={EPOCHS}", "data.batch_size=3", "callbacks.last.share=1e9"]
SIGNALS = "+callbacks.signals._target_=callbacks.Signals"
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
        monkeypatch.setattr(callbacks.Signals, "places", [place])
        monkeypatch.setattr(callbacks.Signals, "number", number)
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
    ("options", "places"),
    [
        (["features.views=2"], PLACES[::4]),
        (["features.max_gb=1e-9"], PLACES[1::5]),  # features are computed anew in each epoch, for several batches
        pytest.param(["features.views=2"], PLACES, marks=pytest.mark.slow),
        pytest.param(
            ["features.views=0", "scheduler.step_size=1", "scheduler.gamma=0.5"], PLACES[::2], marks=pytest.mark.slow
        ),
        pytest.param(
            ["features.views=0", "data.num_workers=1", "data.balance=sampler"], PLACES[::2], marks=pytest.mark.slow
        ),
        pytest.param(["optimizer=adamw", "scheduler=cosine", "mix=mixup"], PLACES[::2], marks=pytest.mark.slow),
        pytest.param(["callbacks=[default,ema]", "callbacks.ema.decay=0.5"], PLACES[::2], marks=pytest.mark.slow),
    ],
    ids=[
        "features",
        "fresh features",
        "features, each place",
        "images",
        "workers",
        "AdamW, cosine and mixup",
        "averaged weights",
    ],
)
def test_a_run_stopped_at_many_steps_and_continued_is_the_run_that_was_not(run, tmp_path, options, places):
    whole, part = tmp_path / "whole", tmp_path / "part"
    assert run(None, *options, folder="whole") == 0
    for number, (place, told) in enumerate(places):
        assert run(place, *options, folder="part", resume=number > 0) == 143, place
        assert status(part) == "interrupted"
        assert describe_progress(last_checkpoint(part)) == told, place
    assert run(None, *options, folder="part", resume=True) == 0
    assert status(part) == "finished"
    assert_equal_runs(part, whole)


@pytest.mark.slow
def test_a_stop_inside_accumulated_batches_waits_for_their_step(run, tmp_path):
    gathered, whole, part = (
        ["+trainer.accumulate_grad_batches=3", "features.views=0"],
        tmp_path / "whole",
        tmp_path / "part",
    )
    run(None, *gathered, folder="whole")
    for number, (place, told) in enumerate(
        [(("train", 0, 0), "0 and 3 batches"), (("train", 2, 3), "2 and 4 batches")]
    ):
        assert run(place, *gathered, folder="part", resume=number > 0) == 143
        assert describe_progress(last_checkpoint(part)) == f"after epoch {told}"
    assert run(None, *gathered, folder="part", resume=True) == 0
    assert_equal_runs(part, whole)


def test_ctrl_c_stops_after_the_step_with_status_130(run, tmp_path):
    assert run(("train", 1, 1), folder="part", number=signal.SIGINT) == 130
    assert describe_progress(last_checkpoint(tmp_path / "part")) == "after epoch 1 and 2 batches"


def test_a_second_ctrl_c_does_not_wait_for_the_step(run, tmp_path, monkeypatch):
    def twice(self, *place):
        if place == ("train", 2, 1):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(callbacks.Signals, "_send", twice)
    assert run(None, folder="part") == 130
    assert status(tmp_path / "part") == "interrupted"
    assert describe_progress(last_checkpoint(tmp_path / "part")) == "after epoch 2", "the one that was there before"


@pytest.mark.slow
def test_a_run_stopped_while_features_are_computed_says_so_and_starts_again(run, tmp_path, monkeypatch):
    def interrupted(*given):
        os.kill(os.getpid(), signal.SIGTERM)

    assert run(None, "features.views=1", folder="whole") == 0
    with monkeypatch.context() as patched:
        patched.setattr("thaw.training.phase_data.stored_features", interrupted)
        assert run(None, "features.views=1", folder="part") == 143
    assert status(tmp_path / "part") == "interrupted"
    assert run(None, "features.views=1", folder="part", resume=True) == 0
    assert_equal_runs(tmp_path / "part", tmp_path / "whole")


def test_signals_are_somebody_elses_again_when_a_run_is_over(run):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    assert run(("train", 0, 0), folder="part") == 143
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


@pytest.mark.parametrize(("epoch", "epochs_kept"), [(0, 1), (3, 3)], ids=["first epoch", "later"])
def test_the_limit_of_time_ends_the_step_and_the_run_has_what_it_has(run, tmp_path, monkeypatch, epoch, epochs_kept):
    over = []
    monkeypatch.setattr(
        callbacks.Signals, "_send", lambda self, *place: over.extend([1] * (place == ("train", epoch, 1)))
    )
    monkeypatch.setattr(RunTimer, "_is_over", lambda self, trainer: bool(over))
    assert run(None, "trainer.max_time=00:00:10:00", folder="part") == 0
    assert status(tmp_path / "part") == "finished"
    assert len(epochs(tmp_path / "part")) == epochs_kept
    steps = torch.load(tmp_path / "part" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert steps == epoch * STEPS + 2, "the step in which the time was over is the last"


def test_another_configuration_is_named_and_leaves_the_run_as_it_is(run, tmp_path, caplog):
    assert run(("train", 1, 1), folder="part") == 143
    assert run(None, "optimizer.momentum=0.5", folder="part", resume=True) == 2
    assert "the run was started with optimizer.momentum=0.9, not 0.5" in caplog.text
    assert status(tmp_path / "part") == "interrupted"
    assert run(None, folder="part", resume=True) == 0


def test_a_run_of_a_version_without_options_that_change_no_result_goes_on(run, tmp_path):
    assert run(("train", 1, 1), folder="part") == 143
    record = tmp_path / "part/.hydra/resolved.yaml"
    values = OmegaConf.load(record)
    del values["graph"], values["data"]["device_gb"]
    values["data"]["pixels_gb"] = 4
    OmegaConf.save(values, record)
    assert run(None, folder="part", resume=True) == 0


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["step_lr", "cosine"])
def test_an_interrupted_run_can_end_with_another_number_of_epochs_and_another_limit_of_time(
    run, tmp_path, caplog, scheduler
):
    phase = ["strategy.phases=[{train: all}]", f"scheduler={scheduler}"]
    assert run(("train", 2, 1), *phase, folder="part") == 143
    shutil.copytree(tmp_path / "part", tmp_path / "now")
    assert run(None, *phase, "trainer.max_epochs=1", folder="part", resume=True) == 2
    assert "trainer.max_epochs=1: 2 epochs are done already; choose at least 2" in caplog.text
    limit = "trainer.max_time=00:01:00:00"
    assert run(None, *phase, "trainer.max_epochs=3", limit, folder="part", resume=True) == 0
    assert run(None, *phase, "trainer.max_epochs=2", folder="now", resume=True) == 0
    assert [len(epochs(tmp_path / name)) for name in ("part", "now")] == [3, 2]
    assert status(tmp_path / "now") == "finished"


@pytest.mark.slow
def test_a_run_goes_on_with_moved_images_and_leaves_itself_as_it_is_without_them(
    tiny_run, run, tmp_path, image_folder, caplog
):
    assert run(("train", 1, 1), folder="part") == 143
    kept = [tmp_path / "part" / name for name in ("summary.json", "metrics.csv", ".hydra/resolved.yaml")]
    saved = [path.read_bytes() for path in kept]
    (tmp_path / "photos").rename(tmp_path / "moved")
    again = [*STRATEGY, *RECIPE, SIGNALS, f"resume={tmp_path / 'part'}"]
    with pytest.raises(SystemExit) as raised:
        main(tiny_run(*again, root=tmp_path / "photos", folder="part"))
    assert raised.value.code == 2
    assert "there is no folder" in caplog.text
    assert [path.read_bytes() for path in kept] == saved
    main(tiny_run(*again, root=tmp_path / "moved", folder="part"))
    assert status(tmp_path / "part") == "finished"
    assert "moved" in (tmp_path / "part" / ".hydra" / "resolved.yaml").read_text()


def test_checkpoints_hold_plain_containers_alone(run, tmp_path):
    def kinds(value):
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
        return {type(value)}.union(*map(kinds, inner))

    run(("train", 1, 1), folder="part")
    plain = {dict, OrderedDict, list, tuple, str, int, float, bool, type(None), torch.Tensor}
    for file in (tmp_path / "part" / "checkpoints").glob("*.ckpt"):
        assert kinds(torch.load(file, weights_only=True)) <= plain
