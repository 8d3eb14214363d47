"""Find the best checkpoint of a run, and the run of a checkpoint."""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from thaw.errors import RunError, UserError
from thaw.runs import run_files
from thaw.runs.configuration import is_run
from thaw.runs.summary import read_summary
from thaw.storage.checkpoints import read_checkpoint

BEST, LAST = Path(run_files.BEST), Path(run_files.LAST)


def checkpoint_path(run: Path) -> Path:
    """Return the best checkpoint in a run's folder, or `run` itself if it is a file.

    Raises:
        UserError: if there is no checkpoint, or if it is not clear which checkpoint is the best.

    """
    if os.path.isfile(run):  # Path.is_file raises an error if the name is too long
        return run
    if os.path.isdir(run):
        run = _model_of_search(run)
        if best := best_file(run):
            return best
        _refuse_several(run)
        _refuse_unnamed(run)
    raise UserError(
        f"there is no trained model in {run}; choose the folder of a run, which contains {BEST}, or a checkpoint file."
    )


def _model_of_search(folder: Path) -> Path:
    """Return the run that a search in `folder` recommends, or `folder` itself if there is no search."""
    path = folder / run_files.SEARCH
    model = json.loads(path.read_text(encoding="utf-8")).get("model") if path.is_file() else None
    return folder / model if model else folder


def best_file(run: Path) -> Path | None:
    """Return the best checkpoint: the one that the run's summary names, or the best so far of an unfinished run.

    Raises:
        UserError: if the file that the summary names is missing.

    """
    summary = read_summary(run)
    if named := summary.get("checkpoint"):
        if (run / named).is_file():
            return run / named
        if summary.get("status") == "finished":
            raise UserError(f"`summary.json` of {run} names {named} as the best weights, but that file is missing.")
    candidates = (*_saved_best(run), run / BEST)
    return next((path for path in candidates if path.is_file()), None)


def _saved_best(run: Path) -> Iterator[Path]:
    """Yield the path of the best checkpoint from the last checkpoint, because a killed run has no summary."""
    last = run / LAST
    if last.is_file():
        with suppress(RunError):
            for state in read_checkpoint(last).get("callbacks", {}).values():
                if state.get("monitor") and state.get("best_model_path"):
                    yield last.parent / os.path.relpath(state["best_model_path"], state["dirpath"])


def _refuse_several(folder: Path) -> None:
    places = {path.parent.parent for pattern in (BEST, run_files.RESOLVED) for path in folder.glob(f"**/{pattern}")}
    runs = sorted(place for place in places if best_file(place))
    if runs:
        named = ", ".join(map(str, runs[:8])) + (", …" if len(runs) > 8 else "")
        raise UserError(f"{folder} holds {len(runs)} runs; choose one of {named}.")


def _refuse_unnamed(run: Path) -> None:
    found = sorted(path for path in (run / LAST).parent.glob("**/*.ckpt") if path != run / LAST)
    if found:
        raise UserError(
            f"{run} has not finished and does not record which of its checkpoints is the best; name the file: "
            f"{', '.join(map(str, found[:8]))}."
        )


def run_folder(checkpoint: Path) -> Path:
    """Return the folder of the run that saved a checkpoint, or the folder of the checkpoint if it was moved."""
    run = next((folder for folder in list(checkpoint.parents)[:4] if is_run(folder)), None)
    return run or (checkpoint.parent.parent if checkpoint.parent.name == BEST.parent.name else checkpoint.parent)
