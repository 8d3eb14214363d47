"""How a run finds its place in MLflow and Weights & Biases, without either of them."""

import csv
import logging
import os
from functools import partial
from importlib.machinery import ModuleSpec
from types import SimpleNamespace

import pytest
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger

from thaw.errors import UserError
from thaw.report.mlflow_record import MlflowRecord
from thaw.report.recording import built, end_records, on_each, record_class, start_records
from thaw.report.run_record import RunRecord
from thaw.report.wandb_record import WandbRecord
from thaw.runs.optional_packages import refuse_without_package
from thaw.runs.tracked_folder import TrackedFolder
from thaw.training.checks import check_configuration
from thaw.training.loggers import shield

TRACKERS = {"logger=mlflow": "MLFlowLogger", "logger=wandb": "WandbLogger"}


@pytest.fixture(autouse=True)
def without_trackers_environment(monkeypatch):
    """Restore the environment variables that building a tracker sets."""
    before = dict(os.environ)
    for name in list(before):
        if name.startswith(("MLFLOW_", "WANDB_")):
            monkeypatch.delenv(name)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]


@pytest.mark.parametrize(
    ("chosen", "loggers"),
    [
        ("logger=mlflow", ["tensorboard", "mlflow"]),
        ("logger=wandb", ["tensorboard", "wandb"]),
        ("logger=[mlflow,wandb]", ["tensorboard", "mlflow", "wandb"]),
    ],
)
def test_a_tracker_is_added_to_tensorboard(configure, chosen, loggers):
    assert list(configure(chosen).logger) == loggers


@pytest.mark.parametrize("chosen", TRACKERS)
@pytest.mark.parametrize("spec", [None, ModuleSpec("a", None)], ids=["nothing", "a folder of results"])
def test_without_its_package_a_tracker_is_refused_before_any_work(tiny_run, monkeypatch, chosen, spec):
    monkeypatch.setattr("thaw.runs.optional_packages.find_spec", lambda name: spec)
    name = chosen.removeprefix("logger=")
    with pytest.raises(UserError, match=rf"^logger\.{name} needs .*: pip install -e '\.\[{name}\]'\.$"):
        check_configuration(tiny_run(chosen, "model._target_=thaw.models.backbones.build_net", "model.name=resnet18"))


def test_with_its_package_nothing_is_refused():
    for name in TRACKERS.values():
        refuse_without_package("logger", f"lightning.pytorch.loggers.{name}")
    refuse_without_package("logger", "lightning.pytorch.loggers.CSVLogger")


@pytest.mark.parametrize("override", ["logger.mlflow.experimentname=a", "logger.wandb.grup=a"])
def test_an_option_that_a_tracker_does_not_have_is_refused(tiny_run, override):
    name = override.split(".")[1]
    with pytest.raises(UserError, match="takes no such argument"):
        check_configuration(tiny_run(f"logger={name}", f"+{override}", "model._target_=nets.tiny_net"))


@pytest.fixture
def sweep(tmp_path):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "multirun.yaml").touch()
    return tmp_path / "sweep"


def test_a_run_keeps_its_ids_and_only_a_continued_run_reads_them(tmp_path):
    TrackedFolder(tmp_path, continues=False).keep("mlflow", {"run_id": "a"})
    TrackedFolder(tmp_path, continues=False).keep("wandb", {"id": "b"})
    assert TrackedFolder(tmp_path, continues=True).ids("mlflow") == {"run_id": "a"}
    assert TrackedFolder(tmp_path, continues=True).ids("wandb") == {"id": "b"}
    assert TrackedFolder(tmp_path, continues=False).ids("mlflow") == {}


@pytest.mark.parametrize("job", ["0-probe", "trials/000-probe"], ids=["sweep", "search"])
def test_a_job_finds_the_run_of_its_sweep(sweep, job):
    whole = TrackedFolder(sweep, continues=True)
    whole.keep("mlflow", {"run_id": "a"})
    inside = TrackedFolder(sweep / job, continues=False)
    assert inside.sweep_ids("mlflow") == {"run_id": "a"} and inside.name == job.rpartition("/")[2]
    assert (inside.is_sweep, whole.is_sweep, whole.sweep_ids("mlflow")) == (False, True, {})


def test_in_mlflow_a_job_is_nested_in_its_sweep_if_both_are_in_one_store(sweep):
    TrackedFolder(sweep, continues=True).keep("mlflow", {"tracking_uri": "sqlite:////a.db", "run_id": "a"})
    job = TrackedFolder(sweep / "0-probe", continues=False)
    assert MlflowRecord.arguments({}, job)["tracking_uri"] == "sqlite:////a.db"
    assert MlflowRecord.arguments({}, job)["tags"]["mlflow.parentRunId"] == "a"
    assert "mlflow.parentRunId" not in MlflowRecord.arguments({"tracking_uri": "http://b"}, job)["tags"]


def test_mlflow_uses_the_chosen_store_then_the_environments_then_a_file_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = TrackedFolder(tmp_path / "run", continues=False)
    assert MlflowRecord.arguments({}, place)["tracking_uri"] == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://environment")
    assert MlflowRecord.arguments({}, place)["tracking_uri"] == "http://environment"
    assert MlflowRecord.arguments({"tracking_uri": "http://chosen"}, place)["tracking_uri"] == "http://chosen"


def test_wandb_is_offline_unless_asked(tmp_path, monkeypatch):
    place = TrackedFolder(tmp_path, continues=False)
    assert WandbRecord.arguments({}, place)["mode"] == "offline"
    monkeypatch.setenv("WANDB_MODE", "online")
    assert WandbRecord.arguments({}, place)["mode"] == "online"
    assert WandbRecord.arguments({"mode": "disabled"}, place)["mode"] == "disabled"


def test_a_users_own_settings_of_a_tracker_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "7")
    MlflowRecord.arguments({}, TrackedFolder(tmp_path, continues=False))
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "7"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_each_kind_of_logger_has_its_record():
    kinds = [TensorBoardLogger, MLFlowLogger, WandbLogger, CSVLogger]
    assert [record_class(kind).__name__ for kind in kinds] == [
        "TensorBoardRecord", "MlflowRecord", "WandbRecord", "RunRecord",
    ]  # fmt: skip


def test_any_logger_of_lightning_gets_settings_and_results_and_is_ended_once(tmp_path):
    logger = CSVLogger(tmp_path, name="", version="csv")
    trainer = SimpleNamespace(loggers=[logger])
    start_records(trainer, {"seed": 3}, tmp_path, continues=False)
    shield(trainer)
    logger.finalize("success")  # as Lightning does after each phase
    assert not (tmp_path / "csv" / "metrics.csv").exists()
    on_each(trainer.loggers, lambda record: record.results({}, {"best/val/acc": 0.5}, [], 4))
    end_records(trainer.loggers, "success")
    with (tmp_path / "csv" / "metrics.csv").open() as file:
        assert list(csv.DictReader(file)) == [{"best/val/acc": "0.5", "step": "4"}]
    assert (tmp_path / "csv" / "hparams.yaml").read_text() == "seed: 3\n"


class Refused(CSVLogger):
    def __init__(self):
        raise ConnectionError("no server")


def test_a_logger_that_cannot_be_built_costs_one_warning(tmp_path, caplog):
    trainer = SimpleNamespace(loggers=[partial(Refused)], global_step=0)
    start_records(trainer, {}, tmp_path, continues=False)
    shield(trainer)
    end_records(trainer.loggers, "success")
    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == [
        "warning: Refused failed and is not used any more (no server)"
    ]


def test_what_fails_within_a_record_is_not_asked_again(tmp_path, caplog):
    class Failing(RunRecord):
        def figure(self, name, path, step):
            raise OSError("No space left on device")

    (logger,) = built([CSVLogger(tmp_path)], TrackedFolder(tmp_path, continues=False))
    for _ in range(2):
        assert on_each([logger], lambda record: Failing(record.logger).figure("a", tmp_path, 0)) == []
    assert len(caplog.records) == 1
