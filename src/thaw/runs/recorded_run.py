"""The frame of a run: whatever happens in it ends in a summary, a sentence and an exit status."""

import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from thaw.errors import FrozenTensorError, RunError, UserError, error_with_sentence
from thaw.pages.text import printable
from thaw.runs.configuration import refuse_other_configuration
from thaw.runs.machine_faults import machine_fault
from thaw.runs.ranks import is_first_process
from thaw.runs.run_folder import RunFolder, refuse_interrupted, run_folder_held
from thaw.runs.stopping import stop_signals, worker_deaths
from thaw.runs.summary import TRACEBACK, write_summary

# Where these two go is said in conf/train.yaml: standard error and the log file; the log file alone.
errors_log = logging.getLogger("thaw.errors")
traceback_log = logging.getLogger("thaw.traceback")


@contextmanager
def recorded_run(cfg: DictConfig) -> Iterator[tuple[RunFolder, dict]]:
    """Yields the run's folder, to be taken, and its summary, to be filled and written at the end.

    Faults that have a sentence are told in it and exit with 2 (`UserError`) or 1 (`RunError`), Ctrl-C with 130 and
    SIGTERM with 143. In a multirun they are raised instead, so that Hydra goes on with the other jobs. What an earlier
    run left in the folder, or this one saved before, stays as it is until the folder is taken.
    """
    with ExitStack() as held:
        _enter(cfg, held)
        with stop_signals:
            yield from _recorded(cfg)


def _enter(cfg: DictConfig, held: ExitStack) -> None:
    try:
        held.enter_context(run_folder_held(Path(cfg.output_dir), bool(cfg.resume)))
        if cfg.resume:
            refuse_other_configuration(cfg, Path(cfg.output_dir))
        elif HydraConfig.get().mode != RunMode.MULTIRUN:  # a sweep goes on by itself
            refuse_interrupted(Path(cfg.output_dir))
    except UserError as error:
        _fail(error, error)


def _recorded(cfg: DictConfig) -> Iterator[tuple[RunFolder, dict]]:
    place, folder, start = RunFolder(cfg), Path(cfg.output_dir), time.perf_counter()
    logging.raiseExceptions = False  # a log that cannot be written is no reason for its own traceback on the terminal
    if not is_first_process():
        logging.getLogger("thaw").setLevel(logging.ERROR)
    summary = {"status": "finished", **_identity()}

    def end(**entries) -> None:
        summary.update(entries)
        summary.setdefault("seconds", {})["total"] = time.perf_counter() - start
        if place.checkpoints:
            summary["checkpoints"] = place.checkpoints()
        if is_first_process() and place.may_be_written:
            write_summary(folder, {**summary, **({} if place.taken else {"begun": False})})

    try:
        _refuse_missing(cfg)
        place.start(cfg)
        summary.update(model=cfg.model.name, weights=cfg.weights, seed=cfg.seed)
        yield place, summary
        end()
    except Exception as error:
        worker_deaths.hush()
        told = error_with_sentence(error) or machine_fault(error, folder, place.command)
        if told is None and stop_signals.received:  # as when a loader's worker was told to end, too
            _end_as_stopped(end, stop_signals.received, place, error)
        sentence = str(told) if told else f"{type(error).__name__}: {error}"
        proof = {"frozen_unchanged": False} if isinstance(told, FrozenTensorError) else {}
        with suppress(OSError):  # on a full disk
            end(status="failed", error=sentence, **proof)
        _keep_traceback(place)
        _fail(told, error)
    except (KeyboardInterrupt, SystemExit) as stop:
        worker_deaths.hush()
        by_hand = isinstance(stop, KeyboardInterrupt)
        _end_as_stopped(end, stop_signals.received or (signal.SIGINT if by_hand else signal.SIGTERM), place, stop)
    finally:
        worker_deaths.listen()


def _end_as_stopped(end: Callable[..., None], received: int, place: RunFolder, cause: BaseException) -> NoReturn:
    name = signal.Signals(received).name
    end(status="interrupted", error=f"stopped by {name}")
    if is_first_process():
        goes_on = f"{place.command} goes on where it was last saved"
        _say(f"stopped by {name}; {f'{place.path} is as it was' if place.replaces else goes_on}")
    raise SystemExit(128 + received) from cause


def _fail(told: UserError | RunError | None, error: Exception) -> NoReturn:
    if told is None or HydraConfig.get().mode == RunMode.MULTIRUN:
        raise error
    _tell(told)
    raise SystemExit(2 if isinstance(told, UserError) else 1) from error


def _keep_traceback(place: RunFolder) -> None:
    if traceback_log.handlers:  # not where Hydra logs in another way, which would show it
        traceback_log.error(traceback.format_exc())
    if is_first_process() and place.may_be_written:
        with suppress(OSError):
            (place.path / TRACEBACK).write_text(traceback.format_exc(), "utf-8", "backslashreplace")


def _identity() -> dict:
    choices = HydraConfig.get().runtime.choices
    return {name: choices[name] for name in ("strategy", "data", "model")}


def _refuse_missing(cfg: DictConfig) -> None:
    for key in sorted(OmegaConf.missing_keys(cfg)):
        raise UserError(f"{key} is not set, and there is no default for it: add {key}=….")


def _tell(told: UserError | RunError) -> None:
    if os.environ.get("THAW_DEBUG", "0") not in ("", "0"):
        errors_log.error(traceback.format_exc())
    _say(f"error: {told}")


def _say(sentence: str) -> None:
    """On standard error, also where Hydra has been told to log nothing."""
    if errors_log.disabled or not errors_log.hasHandlers():
        print(printable(sentence), file=sys.stderr)
    else:
        errors_log.error(printable(sentence))
