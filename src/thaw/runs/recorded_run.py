"""Record how a run ends: write its summary, log an error or a signal in one sentence, and set the exit status."""

import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NoReturn, cast

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from thaw.errors import FrozenTensorError, RunError, UserError, error_with_sentence
from thaw.pages.text import printable
from thaw.runs import run_files
from thaw.runs.configuration import refuse_other_configuration
from thaw.runs.machine_faults import machine_fault
from thaw.runs.moved_names import use_current_names
from thaw.runs.ranks import is_first_process
from thaw.runs.run_folder import RunFolder, refuse_interrupted, run_folder_held
from thaw.runs.stopping import stop_signals, worker_deaths
from thaw.runs.summary import write_summary

# conf/hydra/job_logging sends errors_log to standard error and the log file, and traceback_log to the log file only.
errors_log = logging.getLogger("thaw.errors")
traceback_log = logging.getLogger("thaw.traceback")


@contextmanager
def recorded_run(cfg: DictConfig) -> Iterator[tuple[RunFolder, dict]]:
    """Yield the run's folder and its summary, and write the summary at the end.

    The code in the block calls `RunFolder.take` and fills the summary. `UserError` is logged as one sentence and exits
    with status 2, `RunError` with 1, Ctrl-C with 130 and SIGTERM with 143. In a multirun, errors are raised, so that
    Hydra continues with the other jobs. Files of an earlier run, and earlier checkpoints of this run, stay unchanged
    until `take`.
    """
    with ExitStack() as held:
        _enter(cfg, held)
        with stop_signals:
            yield from _recorded(cfg)


def _enter(cfg: DictConfig, held: ExitStack) -> None:
    try:
        if not is_first_process():
            logging.getLogger("thaw").setLevel(logging.ERROR)
        use_current_names(cfg)
        use_current_names(cast(DictConfig, HydraConfig.instance().cfg))
        held.enter_context(run_folder_held(Path(cfg.output_dir), bool(cfg.resume)))
        if cfg.resume:
            refuse_other_configuration(cfg, Path(cfg.output_dir))
        elif HydraConfig.get().mode != RunMode.MULTIRUN:  # a sweep resumes its interrupted jobs itself
            refuse_interrupted(Path(cfg.output_dir))
    except UserError as error:
        _fail(error, error)


def _recorded(cfg: DictConfig) -> Iterator[tuple[RunFolder, dict]]:
    logging.raiseExceptions = False  # logging must not print tracebacks if the log file cannot be written
    record = _Record(cfg)
    try:
        for key in sorted(OmegaConf.missing_keys(cfg)):
            raise UserError(f"{key} is not set and has no default: add {key}=….")
        record.folder.start(cfg)
        record.summary.update(model=str(cfg.model.name), weights=cfg.weights, seed=cfg.seed)
        yield record.folder, record.summary
        record.write()
    except Exception as error:
        worker_deaths.mute()
        record.end_failed(error)
    except (KeyboardInterrupt, SystemExit) as stop:
        worker_deaths.mute()
        by_hand = isinstance(stop, KeyboardInterrupt)
        record.end_stopped(stop_signals.received or (signal.SIGINT if by_hand else signal.SIGTERM), stop)
    finally:
        worker_deaths.listen()


class _Record:
    def __init__(self, cfg: DictConfig):
        self.folder = RunFolder(cfg)
        choices = HydraConfig.get().runtime.choices
        self.summary: dict = {"status": "finished", **{name: choices[name] for name in ("strategy", "data", "model")}}
        self._start = time.perf_counter()

    def write(self, **entries) -> None:
        """Add `entries` and the total seconds to the summary, and write the summary."""
        self.summary.update(entries)
        self.summary.setdefault("seconds", {})["total"] = time.perf_counter() - self._start
        if self.folder.checkpoints:
            self.summary["checkpoints"] = self.folder.checkpoints()
        if is_first_process() and self.folder.may_be_written:
            write_summary(self.folder.path, {**self.summary, **({} if self.folder.taken else {"begun": False})})

    def end_failed(self, error: Exception) -> NoReturn:
        explained = error_with_sentence(error) or machine_fault(error, self.folder.path, self.folder.command)
        if explained is None and stop_signals.received:  # for example, the signal killed a loader process
            self.end_stopped(stop_signals.received, error)
        sentence = str(explained) if explained else f"{type(error).__name__}: {error}"
        proof = {"frozen_unchanged": False} if isinstance(explained, FrozenTensorError) else {}
        with suppress(OSError):  # the disk may be full
            self.write(status="failed", error=sentence, **proof)
        self._keep_traceback()
        _fail(explained, error)

    def end_stopped(self, received: int, cause: BaseException) -> NoReturn:
        name = signal.Signals(received).name
        self.write(status="interrupted", error=f"stopped by {name}")
        if is_first_process():
            resumed = f"{self.folder.command} resumes from the last checkpoint"
            _log_error(f"stopped by {name}; {f'{self.folder.path} is unchanged' if self.folder.replaces else resumed}")
        raise SystemExit(128 + received) from cause

    def _keep_traceback(self) -> None:
        if traceback_log.handlers:  # without handlers, Python would print the traceback in the terminal
            traceback_log.error(traceback.format_exc())
        if is_first_process() and self.folder.may_be_written:
            with suppress(OSError):
                path = self.folder.path / run_files.TRACEBACK
                path.write_text(traceback.format_exc(), "utf-8", "backslashreplace")


def _fail(explained: UserError | RunError | None, error: Exception) -> NoReturn:
    if explained is None or HydraConfig.get().mode == RunMode.MULTIRUN:
        raise error
    if os.environ.get("THAW_DEBUG", "0") not in ("", "0"):
        errors_log.error(traceback.format_exc())
    _log_error(f"error: {explained}")
    raise SystemExit(2 if isinstance(explained, UserError) else 1) from error


def _log_error(sentence: str) -> None:
    """Log `sentence`, or print it to standard error if Hydra was configured to log nothing."""
    if errors_log.disabled or not errors_log.hasHandlers():
        print(printable(sentence), file=sys.stderr)
    else:
        errors_log.error(printable(sentence))
