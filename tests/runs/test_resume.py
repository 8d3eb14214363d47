"""A run that was stopped after any epoch goes on as if it had not been."""

import json
import re
import shlex
import signal
import subprocess
import time

import pytest
from command_line import TINY, TRAIN, train, with_nets
from resumed import STRATEGY, epochs, tensors

from thaw.runs.recorded_run import recorded_run
from thaw.runs.resume import resume_arguments
from train import main

EPOCHS = 6


@pytest.mark.parametrize(
    ("recipe", "stops"),
    [
        (["scheduler.step_size=1", "scheduler.gamma=0.5"], [1, 4]),
        pytest.param(["scheduler.step_size=1", "scheduler.gamma=0.5"], [2, 3, 5, 6], marks=pytest.mark.slow),
        pytest.param(["features.views=2"], [1, 2, 3], marks=pytest.mark.slow),
        pytest.param(["optimizer=adamw", "scheduler=cosine"], [1, 4], marks=pytest.mark.slow),
        pytest.param(["callbacks=[default,ema]", "callbacks.ema.decay=0.5"], [1, 4], marks=pytest.mark.slow),
    ],
    ids=["SGD and StepLR", "SGD and StepLR, other epochs", "features", "AdamW and cosine", "averaged weights"],
)
def test_a_run_stopped_after_any_epoch_and_continued_is_the_run_that_was_not(
    tiny_run, tmp_path, without_pictures, recipe, stops
):
    chosen = [*STRATEGY, *recipe, "+model.dropout=0.3", f"trainer.max_epochs={EPOCHS}", "callbacks.last.share=1e9"]
    whole = tmp_path / "run"
    chosen += ["+callbacks.kept._target_=callbacks.Snapshots", f"+callbacks.kept.folder={whole}"]
    main(tiny_run(*chosen))
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


@pytest.fixture
def recorded(tmp_path):
    run = tmp_path / "a run's"
    (run / ".hydra").mkdir(parents=True)
    (run / ".hydra/overrides.yaml").write_text("- strategy=gradual\n- data.root=my photos\n")
    return run


def test_the_recorded_options_come_back_in_the_runs_own_folder(recorded):
    quoted = "'" + str(recorded).replace("'", "\\'") + "'"
    expected = ["strategy=gradual", "data.root=my photos", f"resume={quoted}", f"hydra.run.dir={quoted}"]
    assert resume_arguments([f"resume={recorded}"]) == expected
    assert resume_arguments([f"resume={recorded}", "strategy=gradual", "hydra.run.dir=x", "hydra.verbose=true"]) == [
        *expected,
        "hydra.verbose=true",
    ]
    assert resume_arguments(["strategy=gradual"]) == ["strategy=gradual"]
    assert resume_arguments(["resume=null"]) == ["resume=null"]


def test_images_that_were_moved_are_named_when_a_run_goes_on(recorded):
    arguments = resume_arguments([f"resume={recorded}", "data.root=new place"])
    assert arguments[:2] == ["strategy=gradual", "data.root=new place"]
    assert not any("my photos" in argument for argument in arguments)


@pytest.mark.parametrize("more", [[], ["strategy=lp_ft"]])
def test_what_cannot_be_continued_is_told_in_a_sentence_with_status_2(recorded, more, capsys):
    with pytest.raises(SystemExit) as raised:
        resume_arguments([f"resume={recorded if more else 'nowhere'}", *more])
    told = capsys.readouterr().err
    assert raised.value.code == 2
    assert told.count("\n") == 1
    assert ("not strategy=lp_ft; only data.root, " if more else "is not the folder of a run") in told


@pytest.mark.parametrize("address", ["http://host/run", "s3://bucket/run"])
def test_a_run_on_another_machine_is_refused(address, capsys):
    with pytest.raises(SystemExit) as raised:
        resume_arguments([f"resume={address}"])
    assert raised.value.code == 2
    assert f"error: resume={address} is a URL; name the folder of a run" in capsys.readouterr().err


def test_a_run_that_has_finished_is_left_as_it_is(recorded, capsys):
    (recorded / "summary.json").write_text('{"status": "finished"}')
    with pytest.raises(SystemExit) as raised:
        resume_arguments([f"resume={recorded}"])
    assert raised.value.code == 0
    assert "has finished, so there is nothing to resume" in capsys.readouterr().out
    (recorded / "summary.json").write_text('{"status": "interrupted"}')
    assert "strategy=gradual" in resume_arguments([f"resume={recorded}"])


@pytest.mark.parametrize(
    ("phase", "epochs", "told"),
    [
        ("{train: all}", "10", "the run has 10 epochs; name a whole number above that"),
        ("{train: all}", "1.5", "the run has 10 epochs; name a whole number above that"),
        ("{train: [head], solver: {penalty: 1}}", "20", "a solver computed the head of this run"),
        ("{train: all, epochs: 3}", "20", "its last phase has epochs=3, so the run cannot be extended"),
    ],
)
def test_a_finished_run_that_cannot_be_trained_longer_says_why(recorded, capsys, phase, epochs, told):
    (recorded / "summary.json").write_text('{"status": "finished"}')
    resolved = f"{{trainer: {{max_epochs: 10}}, strategy: {{phases: [{phase}]}}}}"
    (recorded / ".hydra/resolved.yaml").write_text(resolved)
    with pytest.raises(SystemExit) as raised:
        resume_arguments([f"resume={recorded}", f"trainer.max_epochs={epochs}"])
    assert raised.value.code == 2
    assert told in capsys.readouterr().err


def test_a_finished_run_can_be_trained_longer_from_its_last_checkpoint(recorded, capsys):
    (recorded / "summary.json").write_text('{"status": "finished"}')
    (recorded / ".hydra/resolved.yaml").write_text("{trainer: {max_epochs: 10}, strategy: {phases: [{train: all}]}}")
    with pytest.raises(SystemExit) as raised:
        resume_arguments([f"resume={recorded}", "trainer.max_epochs=20"])
    assert raised.value.code == 2 and "there is no" in capsys.readouterr().err
    (recorded / "checkpoints").mkdir()
    (recorded / "checkpoints/last.ckpt").touch()
    arguments = resume_arguments([f"resume={recorded}", "trainer.max_epochs=20"])
    assert "trainer.max_epochs=20" in arguments and "strategy=gradual" in arguments


def test_an_interrupted_run_may_end_earlier_or_later_and_have_another_limit_of_time(recorded, capsys):
    (recorded / ".hydra/resolved.yaml").write_text("{trainer: {max_epochs: 10}, strategy: {phases: [{train: all}]}}")
    arguments = resume_arguments([f"resume={recorded}", "trainer.max_epochs=5", "trainer.max_time=00:01:00:00"])
    assert arguments[2:4] == ["trainer.max_epochs=5", "trainer.max_time=00:01:00:00"]
    with pytest.raises(SystemExit) as raised:
        resume_arguments([f"resume={recorded}", "trainer.max_epochs=few"])
    assert raised.value.code == 2
    assert "trainer.max_epochs=few: the run has 10 epochs; name a whole number." in capsys.readouterr().err


@pytest.fixture
def lengthened(tiny_run, tmp_path):
    """The configuration of a finished run of two epochs that is to be trained for four, and its folder."""
    run = tmp_path / "run"
    with recorded_run(tiny_run(root=tmp_path)):
        (run / "checkpoints").mkdir(exist_ok=True)
        (run / "checkpoints/last.ckpt").touch()
    return tiny_run("trainer.max_epochs=4", f"resume={run}", root=tmp_path), run


@pytest.mark.parametrize("begun", [False, True])
def test_the_cure_of_a_lengthened_run_that_is_stopped_is_a_command_that_goes_on(lengthened, caplog, begun):
    cfg, run = lengthened
    with pytest.raises(SystemExit), recorded_run(cfg) as (place, _):
        if begun:
            place.take(goes_on=True)
            assert not (run / "summary.json").exists(), "were it killed now, it would not have finished"
        raise KeyboardInterrupt
    (cure,) = re.findall("; (.*) resumes from the last checkpoint", caplog.text)
    words = shlex.split(cure)
    assert words[:2] == ["python", "train.py"]
    assert ("trainer.max_epochs=4" in words) is not begun
    assert "trainer.max_epochs=4" in resume_arguments(words[2:])


@pytest.mark.slow
@pytest.mark.parametrize(("scheduler", "equal"), [("step_lr", True), ("cosine", False)])
def test_a_run_that_is_trained_longer_goes_on_as_a_longer_one(tiny_run, tmp_path, without_pictures, scheduler, equal):
    def run(epochs, folder, *more):
        chosen = ["strategy=fine_tune", f"scheduler={scheduler}", f"trainer.max_epochs={epochs}", *more]
        root = tmp_path / "photos"
        main(tiny_run(*chosen, root=root if root.exists() else None, folder=folder))

    run(2, "run")
    run(4, "run", f"resume={tmp_path / 'run'}")
    run(4, "whole")
    part, whole = epochs(tmp_path / "run"), epochs(tmp_path / "whole")
    assert [row["lr"] for row in part[2:]] == [row["lr"] for row in whole[2:]]
    assert (part == whole) is equal


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_goes_on_from_the_command_line(tmp_path, image_folder):
    def killed_after(rows, sent, *options):
        command = [*TRAIN, *options]
        with subprocess.Popen(command, cwd=tmp_path, env=with_nets(), stdout=-3, stderr=-3) as process:
            while not (part / "metrics.csv").exists() or (part / "metrics.csv").read_text().count("\n") < rows:
                time.sleep(0.02)
            process.send_signal(sent)
        assert len(epochs(part)) < 30

    options = [
        *TINY,
        f"data.root={image_folder(train=40)}",
        *STRATEGY,
        "trainer.max_epochs=30",
    ]
    assert train(*options, "hydra.run.dir=whole", cwd=tmp_path).returncode == 0
    part = tmp_path / "the part"
    killed_after(4, signal.SIGKILL, *options, "hydra.run.dir='the part'")
    killed_after(12, signal.SIGTERM, "resume=the part")
    done = train("resume=the part", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "continued after epoch" in done.stdout
    assert epochs(part) == epochs(tmp_path / "whole")
    assert json.loads((part / "summary.json").read_text())["status"] == "finished"
