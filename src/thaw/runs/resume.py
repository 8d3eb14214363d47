"""`resume=RUN_DIR`: the command of an interrupted run again, in that run's own folder."""

import sys
from pathlib import Path

from omegaconf import OmegaConf

from thaw.pages.text import printable
from thaw.runs.configuration import CHANGEABLE, read_resolved
from thaw.runs.shorthand import literal
from thaw.runs.shown_commands import quoted, unquoted
from thaw.runs.summary import has_finished
from thaw.storage.addresses import is_remote

_EPOCHS = "trainer.max_epochs"


def resume_arguments(arguments: list[str]) -> list[str]:
    """`arguments` of the command line, where there is `resume=RUN_DIR` with all that the run was started with.

    Images may have been moved: `data.root=NEW`. `trainer.max_epochs=N` trains a run that has finished longer, and one
    that was interrupted for another number of epochs; that one may have another `trainer.max_time`, too. Exits with a
    sentence and status 2 if there is no such run, or if something else is asked of it than before; with status 0 if it
    has finished.
    """
    given = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    if given.get("resume", "null") in ("null", ""):
        return arguments
    told = unquoted(given["resume"])
    if is_remote(told):
        _refuse(f"resume={told} is an address; name the folder of a run on this machine")
    folder = Path(told).expanduser()
    record = folder / ".hydra" / "overrides.yaml"
    if not record.is_file():
        _refuse(f"resume={folder}: there is no run, for there is no {record}; name the folder that holds summary.json")
    ours = [literal(argument) for argument in arguments if not argument.startswith(("resume=", "hydra.", "-"))]
    epochs = {_key(override): override.partition("=")[2] for override in ours}.get(_EPOCHS)
    if has_finished(folder) and epochs is None:
        print(f"{folder} has finished: there is nothing to go on with; trainer.max_epochs=N trains it longer")
        raise SystemExit(0)
    recorded = OmegaConf.to_container(OmegaConf.load(record), resolve=False)
    recorded = [override for override in recorded if not override.startswith("resume=")]
    if epochs is not None:
        _check_epochs(folder, epochs)
    overrides = _merged(folder, recorded, ours)
    rest = [argument for argument in arguments if argument.startswith(("hydra.", "-"))]
    rest = [argument for argument in rest if not argument.startswith("hydra.run.dir=")]
    return [*overrides, f"resume={quoted(folder)}", f"hydra.run.dir={quoted(folder)}", *rest]


def _merged(folder: Path, recorded: list[str], ours: list[str]) -> list[str]:
    """The overrides of the run, with those of this command line that may differ."""
    merged = recorded
    for override in ours:
        if _key(override) in CHANGEABLE:
            merged = [*(one for one in merged if _key(one) != _key(override)), override]
        elif override.lstrip("+") not in [one.lstrip("+") for one in recorded]:
            started = " ".join(recorded) or "no options"
            _refuse(
                f"resume={folder} continues the run as it was started, with {started}; {override} is not among them"
            )
    return merged


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+")


def _check_epochs(folder: Path, told: str) -> None:
    """Refuse to train the run in `folder` for `told` epochs in all, if that is not possible."""
    before = read_resolved(folder)
    epochs, phases = before["trainer"]["max_epochs"], before["strategy"]["phases"]
    finished = has_finished(folder)
    if told == str(epochs) and not finished:
        return
    if phases[-1].get("solver"):
        _refuse(
            f"resume={folder}: the head of this run is solved, which is its optimum; there are no epochs to extend. "
            "Choose another penalty, data or strategy in a new run"
        )
    if phases[-1].get("epochs"):
        _refuse(
            f"resume={folder}: the last phase of its strategy names its number of epochs, so that it cannot be extended"
        )
    if not told.isdecimal() or int(told) <= (epochs if finished else 0):
        above = "name a whole number above that" if finished else "name a whole number"
        _refuse(f"resume={folder} {_EPOCHS}={told}: the run has {epochs} epochs; {above}")


def _refuse(sentence: str) -> None:
    print(f"error: {printable(sentence)}.", file=sys.stderr)
    raise SystemExit(2)
