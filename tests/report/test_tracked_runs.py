"""Whole runs and sweeps, read back from MLflow's own client and from the offline files of Weights & Biases."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from command_line import TINY, TRAIN, train, with_nets
from conftest import rows
from resumed import STRATEGY
from sweeps import wait_for
from tracked import mlflow_runs, wandb_runs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
BOTH = "logger=[mlflow,wandb]"
FIGURES = {"samples", "predictions", "confusion_matrix"}
METRICS = ("train/loss", "train/acc", "val/loss", "val/acc", "val/macro_acc")


@pytest.fixture(scope="module", autouse=True)
def without_servers():
    """Keep runs away from the developer's own servers and keys."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
            patch.delenv(name, raising=False)
        yield


def run(*overrides, cwd, status=0, **changes):
    done = train(*TINY, *overrides, cwd=cwd, **changes)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def only(runs):
    (one,) = runs
    return one


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """A run of three phases in both trackers: its folder, its run in MLflow and its run in W&B."""
    from test_tensorboard import write_folder

    place = tmp_path_factory.mktemp("tracked")
    write_folder(place / "photos")
    done = run(*STRATEGY, BOTH, "data.root=photos", "trainer.max_epochs=6", "seed=3", "hydra.run.dir=run", cwd=place)
    runs = mlflow_runs(place / "mlflow.db")
    return place / "run", runs[f"{place.name}/run"], only(wandb_runs(place)), done.stdout


def test_mlflow_and_wandb_have_the_settings_of_the_run(tracked):
    _, mlflow, wandb, _ = tracked
    expected = {"strategy.lr": "0.1", "seed": "3", "data.batch_size": "5", "trainer.max_epochs": "6"}
    for settings in (mlflow.params, wandb.config):
        assert {key: str(settings[key]) for key in expected} == expected
        assert settings["strategy.phases"] == STRATEGY[0].partition("=")[2]
        assert (settings["data.root"], settings["weights"]) == ("photos", "none")


def test_mlflow_wandb_and_tensorboard_have_the_metrics_of_every_epoch(tracked):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, mlflow, wandb, _ = tracked
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    table = rows(folder / "metrics.csv")
    assert len(table) == 6
    for name in METRICS:
        expected = pytest.approx([float(row[name]) for row in table], abs=1e-6)
        assert [value for _, value in mlflow.history[name]] == expected
        assert [entry[name] for entry in wandb.history if name in entry] == expected
        assert [step for step, _ in mlflow.history[name]] == [one.step for one in events.Scalars(name)]
    rates = [name for name in events.Tags()["scalars"] if name.startswith("lr-")]
    assert rates and all([v for _, v in mlflow.history[name]] == [
        pytest.approx(one.value) for one in events.Scalars(name)
    ] for name in rates)  # fmt: skip


def test_mlflow_and_wandb_have_every_figure_and_the_tables_but_no_checkpoint(tracked):
    folder, mlflow, wandb, _ = tracked
    assert {path.stem for path in (folder / "figures").glob("*.png")} == FIGURES
    assert mlflow.artifacts == {"metrics.csv", "summary.json", *(f"figures/{name}.png" for name in FIGURES)}
    assert {"metrics.csv", "summary.json"} <= wandb.files and not any(".ckpt" in name for name in wandb.files)
    logged = {
        entry[f"{name}.filenames"][0] for name in FIGURES for entry in wandb.history if f"{name}.filenames" in entry
    }
    assert len(logged) == 3
    for name in logged:
        assert (wandb.folder / "files" / name).read_bytes().startswith(b"\x89PNG")


def test_mlflow_and_wandb_have_the_results_and_the_cost(tracked):
    folder, mlflow, wandb, output = tracked
    summary = json.loads((folder / "summary.json").read_text())
    low, high = summary["val"]["acc_ci95"]
    expected = {"best/val/acc": summary["val"]["acc"], "best/val/acc_low": low, "best/val/acc_high": high}
    expected |= {"best/val/loss": summary["val"]["loss"], "cost/seconds": summary["seconds"]["total"]}
    for found in (mlflow.metrics, wandb.summary):
        assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert (mlflow.status, wandb.exit_code) == ("FINISHED", 0)
    assert f"mlflow ui --backend-store-uri sqlite:///{folder.parent}/mlflow.db" in output
    assert f"wandb sync {wandb.folder}" in output


@pytest.fixture
def interrupted(tmp_path, image_folder):
    """Return a function that starts a run, sends a signal after a few epochs, and returns the exit status."""

    def go(number):
        command = [*TRAIN, *TINY, BOTH, f"data.root={image_folder()}", "trainer.max_epochs=100000", "strategy=bias"]
        environment = with_nets()
        with subprocess.Popen([*command, "hydra.run.dir=run"], cwd=tmp_path, env=environment, stdout=-3) as process:
            table = tmp_path / "run" / "metrics.csv"
            wait_for(lambda: table.is_file() and len(rows(table)) > 3)
            process.send_signal(number)
            return process.wait(60)

    return go


def test_an_interrupted_run_is_stopped_in_the_trackers_and_a_resumed_one_goes_on_there(tmp_path, interrupted):
    assert interrupted(signal.SIGINT) == 130
    name = f"{tmp_path.name}/run"
    before, first = mlflow_runs(tmp_path / "mlflow.db")[name], only(wandb_runs(tmp_path))
    assert (before.status, first.exit_code) == ("KILLED", 255)
    epochs = len(rows(tmp_path / "run" / "metrics.csv")) + 2
    done = train("resume=run", f"trainer.max_epochs={epochs}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    runs = mlflow_runs(tmp_path / "mlflow.db")
    after = runs[name]
    assert (len(runs), after.id, after.status) == (1, before.id, "FINISHED")
    accuracies = [float(row["val/acc"]) for row in rows(tmp_path / "run" / "metrics.csv")]
    assert [value for _, value in after.history["val/acc"]] == pytest.approx(accuracies, abs=1e-6)
    assert (after.params["trainer.max_epochs"], after.tags["trainer.max_epochs"]) == ("100000", str(epochs))
    assert [one.id for one in wandb_runs(tmp_path)] == [first.id] * 2
    entries = [entry for one in wandb_runs(tmp_path) for entry in one.history if "val/acc" in entry]
    assert len(entries) == epochs


def test_a_run_that_fails_has_failed_in_the_trackers(tmp_path, image_folder):
    poison = "+callbacks.poison={_target_: callbacks.Poison, epoch: 2, batch: 0}"
    run(BOTH, f"data.root={image_folder()}", "strategy=bias", poison, status=1, cwd=tmp_path)
    assert (only(mlflow_runs(tmp_path / "mlflow.db").values()).status, only(wandb_runs(tmp_path)).exit_code) == (
        "FAILED", 1,
    )  # fmt: skip


SWEEP = ["-m", BOTH, "trainer.max_epochs=2", "hydra.sweep.dir=sweep"]


@pytest.mark.parametrize("how", [[], ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]], ids=["serial", "parallel"])
def test_a_sweep_is_one_run_with_nested_runs_also_when_it_is_continued(tmp_path, image_folder, how):
    if how:
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="needs pip install thaw[launchers]")
    photos = f"data.root={image_folder()}"
    run(*SWEEP, photos, "strategy=probe,bias", *how, cwd=tmp_path)
    check_sweep(tmp_path, {"0-probe", "1-bias"})
    run(*SWEEP, photos, "strategy=probe,bias,feature_extractor", *how, cwd=tmp_path)
    check_sweep(tmp_path, {"0-probe", "1-bias", "2-feature_extractor"})


def check_sweep(place, jobs):
    runs = mlflow_runs(place / "mlflow.db")
    parent = runs.pop(f"{place.name}/sweep")
    assert runs.keys() == jobs
    assert {one.tags["mlflow.parentRunId"] for one in runs.values()} == {parent.id}
    assert {one.status for one in (parent, *runs.values())} == {"FINISHED"}
    best = json.loads((place / "sweep" / "comparison.json").read_text())["candidates"][0]
    assert parent.metrics["best/val/acc"] == best["acc"] and parent.tags["best"] == best["name"]
    assert {"report.html", "comparison.csv", "comparison.json"} <= parent.artifacts
    assert all(name in parent.tags["mlflow.note.content"] for name in ("probe", "bias"))
    group = wandb_runs(place)
    assert {one.group for one in group} == {"sweep"}
    assert {one.name for one in group if one.job_type == "run"} == jobs
    whole = [one for one in group if one.job_type == "sweep"]
    assert len({one.id for one in whole}) == 1 and whole[-1].summary["best/val/acc"] == pytest.approx(best["acc"])
    assert {"report.html", "comparison.csv"} <= whole[-1].files and whole[-1].summary["best"] == best["name"]
    assert all(one.exit_code == 0 for one in group)


def test_a_sweep_that_is_interrupted_is_stopped_and_the_same_command_ends_it(tmp_path, image_folder):
    command = [*TINY, *SWEEP, f"data.root={image_folder()}", "trainer.max_epochs=80", "strategy=bias,feature_extractor"]
    with subprocess.Popen([*TRAIN, *command], cwd=tmp_path, env=with_nets(), stdout=-3, stderr=-3) as process:
        table = tmp_path / "sweep" / "0-bias" / "metrics.csv"
        wait_for(lambda: table.is_file() and len(rows(table)) > 3)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    runs = mlflow_runs(tmp_path / "mlflow.db")
    assert {name: one.status for name, one in runs.items()} == {f"{tmp_path.name}/sweep": "KILLED", "0-bias": "KILLED"}
    assert train(*command, cwd=tmp_path).returncode == 0
    after = mlflow_runs(tmp_path / "mlflow.db")
    assert {name: one.status for name, one in after.items()} == dict.fromkeys(
        [*runs, "1-feature_extractor"], "FINISHED"
    )
    assert all(after[name].id == one.id for name, one in runs.items())


def test_a_server_that_is_not_there_costs_one_warning_and_seconds(tmp_path, image_folder):
    photos = f"data.root={image_folder()}"
    start = time.monotonic()
    run(photos, cwd=tmp_path)
    usual, start = time.monotonic() - start, time.monotonic()
    done = run(photos, "logger=mlflow", "logger.mlflow.tracking_uri=http://127.0.0.1:9", cwd=tmp_path)
    assert time.monotonic() - start < usual + 30
    text = done.stdout + done.stderr
    assert text.count("warning") == 1 and "MLFlowLogger failed and is not used any more" in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("overrides", "changes", "reason"),
    [
        (["logger.wandb.mode=online"], {"WANDB_API_KEY": "abc"}, "API key"),
        (
            ["logger.wandb.mode=online", "logger.wandb.settings.init_timeout=3"],
            {"WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"},
            "",
        ),
    ],
    ids=["invalid key", "no server"],
)
def test_wandb_without_a_key_or_a_server_costs_one_warning(tmp_path, image_folder, overrides, changes, reason):
    done = run(f"data.root={image_folder()}", "logger=wandb", *overrides, cwd=tmp_path, **changes)
    warnings = [line for line in (done.stdout + done.stderr).splitlines() if "warning" in line.lower()]
    assert len(warnings) == 1 and "WandbLogger failed and is not used any more" in warnings[0] and reason in warnings[0]
    assert "Traceback" not in done.stderr


def test_a_service_of_wandb_that_is_killed_costs_one_warning(tmp_path, image_folder):
    kill = "+callbacks.kill._target_=callbacks.KillWandb"
    done = run(f"data.root={image_folder()}", "logger=wandb", kill, cwd=tmp_path)
    text = done.stdout + done.stderr
    assert text.count("WandbLogger failed and is not used any more") == 1 and "Traceback" not in text


def test_a_store_that_cannot_be_written_costs_one_warning(tmp_path, image_folder):
    (tmp_path / "mlflow.db").mkdir()
    done = run(f"data.root={image_folder()}", "logger=mlflow", cwd=tmp_path)
    text = done.stdout + done.stderr
    assert text.count("MLFlowLogger failed and is not used any more") == 1 and "Traceback" not in text


def test_of_several_processes_one_writes_to_the_trackers(tmp_path, image_folder):
    two = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.max_epochs=2", "data.batch_size=6"]
    run(BOTH, *two, f"data.root={image_folder()}", "hydra.run.dir=run", cwd=tmp_path)
    found = only(mlflow_runs(tmp_path / "mlflow.db").values())
    assert (found.status, len(found.history["val/acc"])) == ("FINISHED", 2)
    assert len([entry for entry in only(wandb_runs(tmp_path)).history if "val/acc" in entry]) == 2


def test_two_runs_that_start_at_once_share_a_new_store(tmp_path, image_folder):
    photos = f"data.root={image_folder()}"
    commands = [[*TRAIN, *TINY, photos, "logger=mlflow", f"hydra.run.dir={name}"] for name in ("a", "b")]
    running = [subprocess.Popen(one, cwd=tmp_path, env=with_nets(), stdout=-3, stderr=-1) for one in commands]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    statuses = {name: one.status for name, one in mlflow_runs(tmp_path / "mlflow.db").items()}
    assert statuses == {f"{tmp_path.name}/{name}": "FINISHED" for name in ("a", "b")}


def test_checkpoints_are_stored_if_asked(tmp_path, image_folder):
    run(f"data.root={image_folder()}", "logger=mlflow", "logger.mlflow.log_model=true", cwd=tmp_path)
    found = only(mlflow_runs(tmp_path / "mlflow.db").values())
    assert "best/best.ckpt" in found.artifacts or "last/last.ckpt" in found.artifacts


def test_a_run_without_a_tracker_imports_none(tmp_path, image_folder):
    code = "import runpy, sys; runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    code += "; assert not {'mlflow', 'wandb'} & set(sys.modules)"
    command = [sys.executable, "-c", code, *TRAIN[1:], *TINY, f"data.root={image_folder()}"]
    done = subprocess.run(command, cwd=tmp_path, env=with_nets(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert os.path.isdir(tmp_path / "outputs")
