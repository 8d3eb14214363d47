"""Record a run in all its loggers: settings at the start, then figures, and results at the end."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

from lightning import Trainer
from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from thaw.report.mlflow_record import MlflowRecord
from thaw.report.run_record import RunRecord
from thaw.report.tensorboard_record import TensorBoardRecord
from thaw.report.wandb_record import WandbRecord
from thaw.runs import run_files
from thaw.runs.tracked_folder import TrackedFolder
from thaw.training.loggers import attempt, has_failed

_RECORDS = {TensorBoardLogger: TensorBoardRecord, MLFlowLogger: MlflowRecord, WandbLogger: WandbRecord}


def record_class(kind: type) -> type[RunRecord]:
    """Return the class of records for loggers of the class `kind`."""
    return next((record for logger, record in _RECORDS.items() if issubclass(kind, logger)), RunRecord)


def built(loggers: Sequence[Any], folder: TrackedFolder) -> list[Any]:
    """Build a logger from each `functools.partial` in `loggers`; one that fails stays a partial."""

    def build(part: partial) -> Any:
        record = record_class(cast(type, part.func))
        added = record.arguments(part.keywords, folder)
        record.prepare({**part.keywords, **added})
        return part(**added)

    return [(attempt(one, lambda one=one: build(one)) or one) if isinstance(one, partial) else one for one in loggers]


def on_each(loggers: Sequence[Any], act: Callable[[RunRecord], object]) -> list[Any]:
    """Call `act` with the record of each logger that has not failed; return the results, without those of failures."""
    usable = [logger for logger in loggers if not isinstance(logger, partial)]
    found = [attempt(one, lambda one=one: act(record_class(type(one))(one))) for one in usable]
    return [result for one, result in zip(usable, found, strict=True) if not has_failed(one)]


@rank_zero_only
def start_records(trainer: Trainer, settings: Mapping[str, object], folder: Path, continues: bool) -> None:
    """Build the run's loggers, and record its settings; a run that `continues` goes on in the same records."""
    place = TrackedFolder(folder.absolute(), continues)
    trainer.loggers = built(trainer.loggers, place)
    on_each(trainer.loggers, lambda record: record.start(settings, place))


@rank_zero_only
def record_results(trainer: Trainer, settings: Mapping[str, object], summary: Mapping, folder: Path) -> None:
    """Record the results of a finished run, and end its records."""
    files = [path for name in (run_files.SUMMARY, run_files.METRICS) if (path := folder / name).is_file()]
    found = _results(summary)
    on_each(trainer.loggers, lambda record: record.results(settings, found, files, trainer.global_step))
    end_records(trainer.loggers, "success")


def _results(summary: Mapping) -> dict[str, float]:
    """Return the numbers of a summary that loggers record."""
    found = {}
    for split in ("val", "test"):
        for name, value in summary.get(split, {}).items():
            if name.endswith("_ci95"):
                metric = name.removesuffix("_ci95")
                found |= {f"best/{split}/{metric}_low": value[0], f"best/{split}/{metric}_high": value[1]}
            elif isinstance(value, int | float):
                found[f"best/{split}/{name}"] = float(value)
    found |= {"cost/seconds": summary["seconds"]["total"], "cost/peak_memory_mb": summary["peak_memory_mb"]}
    return found | {f"cost/{name}_parameters": float(count) for name, count in summary["parameters"].items()}


def end_records(loggers: Sequence[Any], status: str) -> None:
    """End the record in each logger with the status `success`, `failed` or `stopped`."""
    on_each(loggers, lambda record: record.end(status))
    for logger in filter(has_failed, loggers):
        if not isinstance(logger, partial):
            with suppress(Exception):
                record_class(type(logger))(logger).give_up()


@contextmanager
def ended_on_error(trainer: Trainer) -> Iterator[None]:
    """If an error or a signal leaves the block, end the records of the run as failed or stopped."""
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt | SystemExit)
        rank_zero_only(end_records)(trainer.loggers, "stopped" if stopped else "failed")
        raise
