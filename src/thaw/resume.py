"""`resume=RUN_DIR`: the command of an interrupted run again, in that run's own folder."""

import sys
from pathlib import Path

from omegaconf import OmegaConf

from thaw.configuration import quoted, read_resolved
from thaw.remote import is_remote
from thaw.report.record import has_finished

_EPOCHS = "trainer.max_epochs="


def resumed(arguments: list[str]) -> list[str]:
    """`arguments` of the command line, where there is `resume=RUN_DIR` with all that the run was started with.

    Images may have been moved: `data.root=NEW`; a run that has finished may be trained longer: `trainer.max_epochs=N`.
    Exits with a sentence and status 2 if there is no such run, or if
    something else is asked of it than before; with status 0 if it has finished.
    """
    given = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    if given.get("resume", "null") in ("null", ""):
        return arguments
    told = given["resume"].strip("'\"")
    if is_remote(told):
        _refuse(f"resume={told} is an address; name the folder of a run on this machine")
    folder = Path(told)
    record = folder / ".hydra" / "overrides.yaml"
    if not record.is_file():
        _refuse(f"resume={folder}: there is no run, for there is no {record}; name the folder that holds summary.json")
    ours = [argument for argument in arguments if not argument.startswith(("resume=", "hydra.", "-"))]
    longer = has_finished(folder) and any(override.startswith(_EPOCHS) for override in ours)
    if has_finished(folder) and not longer:
        print(f"{folder} has finished: there is nothing to go on with; trainer.max_epochs=N trains it longer")
        raise SystemExit(0)
    recorded = [override for override in OmegaConf.load(record) if not override.startswith("resume=")]
    if longer:
        _check_longer(folder, given[_EPOCHS.removesuffix("=")])
    for key in ("data.root=", *([_EPOCHS] if longer else [])):
        changed = [override for override in ours if override.startswith(key)]
        if changed:
            recorded = [override for override in recorded if not override.startswith(key)] + changed[-1:]
    for override in ours:
        if override not in recorded:
            started = " ".join(recorded) or "no options"
            _refuse(
                f"resume={folder} continues the run as it was started, with {started}; {override} is not among them"
            )
    rest = [argument for argument in arguments if argument.startswith(("hydra.", "-"))]
    rest = [argument for argument in rest if not argument.startswith("hydra.run.dir=")]
    return [*recorded, f"resume={quoted(folder)}", f"hydra.run.dir={quoted(folder)}", *rest]


def _check_longer(folder: Path, told: str) -> None:
    """Refuse to train the finished run in `folder` for `told` epochs in all, if that is not possible."""
    before = read_resolved(folder)
    epochs, phases = before["trainer"]["max_epochs"], before["strategy"]["phases"]
    if phases[-1].get("solver"):
        _refuse(
            f"resume={folder}: the head of this run is solved, which is its optimum; there are no epochs to extend. "
            "Choose another penalty, data or strategy in a new run"
        )
    if phases[-1].get("epochs"):
        _refuse(
            f"resume={folder}: the last phase of its strategy names its number of epochs, so that it cannot be extended"
        )
    if not told.isdecimal() or int(told) <= epochs:
        _refuse(f"resume={folder} {_EPOCHS}{told}: the run has {epochs} epochs; name a whole number above that")


def _refuse(sentence: str) -> None:
    print(f"error: {sentence}.", file=sys.stderr)
    raise SystemExit(2)
