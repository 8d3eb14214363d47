"""A sweep in MLflow and Weights & Biases: one run with the sweep's results, to which the runs of its jobs belong."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from thaw.runs import run_files
from thaw.runs.components import instantiate
from thaw.runs.configuration import resolved_job
from thaw.runs.optional_output import warn_on_failure
from thaw.runs.streams import print_error
from thaw.runs.tracked_folder import TrackedFolder
from thaw.sweep.processes import Process, can_fork

_FILES = (run_files.REPORT, "shortlist.html", "search.html", "comparison.csv", "comparison.json", "trials.csv")
_CONSOLE = "trackers.log"
_PATIENCE = 120  # seconds until a tracker that hangs is left alone


@contextmanager
def tracked_sweep(folder: Path, configurations: Sequence[DictConfig]) -> Iterator[None]:
    """Inside the block, the sweep in `folder` has a run in each tracker that `configurations` of its jobs name.

    A sweep that is continued goes on with the same runs.
    """
    parts = _trackers(configurations)
    if not parts:
        yield
        return
    _apart(folder, lambda: _record(folder, parts, "running"))
    status = "success"
    try:
        yield
    except SystemExit as end:
        status = "failed" if end.code in (1, 2) else "stopped"
        raise
    except BaseException:
        status = "failed"
        raise
    finally:
        _apart(folder, lambda: _record(folder, parts, status))


def _trackers(configurations: Sequence[DictConfig]) -> list[partial]:
    """Return the loggers of jobs that are built later, each once."""
    found: list[dict] = []
    for cfg in configurations:
        loggers = resolved_job(cfg)["trainer"].get("logger")
        later = [one for one in loggers if isinstance(one, dict) and one.get("_partial_")] if loggers else []
        found += [one for one in later if one not in found]
    return [instantiate(one) for one in found]


def _apart(folder: Path, task: Callable[[], None]) -> None:
    """Call `task` in a fork, because jobs are forks of this process and must not share a tracker's connections."""
    if not can_fork():
        task()
        return
    with warn_on_failure(f"the record of the sweep {folder}"):
        console = folder / _CONSOLE
        process = Process(task, console)
        if not process.wait(_PATIENCE):
            process.stop(grace=5)
            print_error(f"warning: a tracker has not answered for {_PATIENCE} seconds; the sweep goes on without it")
        sys.stderr.write(console.read_text("utf-8", "replace"))
        console.unlink()


def _record(folder: Path, parts: Sequence[partial], status: str) -> None:
    """Record the state of the sweep: its options, and what it has found if it is not `running`."""
    from thaw.report.recording import built, end_records, on_each, record_class

    place = TrackedFolder(folder.absolute(), continues=True)
    begun = [one for one in parts if status != "running" or record_class(cast(type, one.func)).nests]
    loggers, settings = built(begun, place), _settings(folder)
    on_each(loggers, lambda record: record.start(settings, place))
    if status == "running":
        return
    results, *described = _results(folder)
    files = [path for name in _FILES if (path := folder / name).is_file()]
    on_each(loggers, lambda record: record.results(settings, results, files, 0))
    if results:
        on_each(loggers, lambda record: record.describe(*described))
    end_records(loggers, status)


def _settings(folder: Path) -> dict[str, Any]:
    overrides = OmegaConf.load(folder / run_files.SWEEP_CONFIG).hydra.overrides.task
    pairs = [str(override).lstrip("+~").partition("=") for override in overrides]
    return {key: value for key, _, value in pairs}


def _results(folder: Path) -> tuple[dict[str, float], str, str]:
    """Return the best candidate's numbers, the table of all candidates, and the best one's name.

    A search, which has no `comparison.json`, gives empty values.
    """
    from thaw.comparison.comparison_page import table

    path = folder / "comparison.json"
    facts = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    if not facts.get("candidates"):
        return {}, "", ""
    best, split, metric = facts["candidates"][0], facts["split"], facts["metric"]
    low, high = best[f"{metric}_ci95"]
    numbers = {metric: best[metric], f"{metric}_low": low, f"{metric}_high": high, "loss": best["loss"]}
    results = {f"best/{split}/{name}": value for name, value in numbers.items()}
    return results, f"```\n{table(facts)}\n```", best["name"]
