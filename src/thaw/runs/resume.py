"""Complete `resume=RUN_DIR` on the command line with the options that the run was started with."""

from pathlib import Path

from thaw.runs import run_files
from thaw.runs.configuration import CHANGEABLE, read_resolved
from thaw.runs.run_folder import recorded_overrides
from thaw.runs.shorthand import literal
from thaw.runs.shown_commands import quoted, unquoted
from thaw.runs.streams import refuse
from thaw.runs.summary import has_finished
from thaw.storage.files import is_remote

_EPOCHS = "trainer.max_epochs"


def resume_arguments(arguments: list[str]) -> list[str]:
    """Return `arguments`; if `resume=RUN_DIR` is one of them, add the overrides that this run was started with.

    The keys in `CHANGEABLE` may have new values: for example `data.root=NEW` after the images moved, or
    `trainer.max_epochs=N` to train longer.

    Raises:
        SystemExit: with status 2, after an error sentence, if there is no such run or another key has a new value;
            with status 0 if the run has finished and `trainer.max_epochs` is not set.

    """
    given = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    if given.get("resume", "null") in ("null", ""):
        return arguments
    name = unquoted(given["resume"])
    if is_remote(name):
        refuse(f"resume={name} is a URL; name the folder of a run on this machine.")
    folder = Path(name).expanduser()
    record = folder / run_files.OVERRIDES
    if not record.is_file():
        refuse(f"resume={folder} is not the folder of a run: it has no {run_files.OVERRIDES}; name a run's folder.")
    ours = [literal(argument) for argument in arguments if not argument.startswith(("resume=", "hydra.", "-"))]
    epochs = {_key(override): override.partition("=")[2] for override in ours}.get(_EPOCHS)
    recorded = [override for override in recorded_overrides(folder) if not override.startswith("resume=")]
    overrides = _merged(folder, recorded, ours)
    if has_finished(folder) and epochs is None:
        print(f"{folder} has finished, so there is nothing to resume; trainer.max_epochs=N trains it longer")
        raise SystemExit(0)
    if epochs is not None:
        _check_epochs(folder, epochs)
    if has_finished(folder) and not (folder / run_files.LAST).is_file():  # a new start would replace the results
        refuse(f"resume={folder}: there is no {folder / run_files.LAST} to continue the run from.")
    kept = [one for one in arguments if one.startswith(("hydra.", "-")) and not one.startswith("hydra.run.dir=")]
    return [*overrides, f"resume={quoted(folder)}", f"hydra.run.dir={quoted(folder)}", *kept]


def _merged(folder: Path, recorded: list[str], ours: list[str]) -> list[str]:
    """Return the run's overrides with new values for `CHANGEABLE` keys; exit with an error for other new values."""
    merged = recorded
    for override in ours:
        if _key(override) in CHANGEABLE:
            merged = [*(one for one in merged if _key(one) != _key(override)), override]
        elif override.lstrip("+") not in [one.lstrip("+") for one in recorded]:
            started = " ".join(recorded) or "no options"
            refuse(
                f"resume={folder} continues with {started}, not {override}; only {', '.join(CHANGEABLE)} may change."
            )
    return merged


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+")


def _check_epochs(folder: Path, wanted: str) -> None:
    before = read_resolved(folder)
    epochs, phases = before["trainer"]["max_epochs"], before["strategy"]["phases"]
    finished = has_finished(folder)
    if wanted == str(epochs) and not finished:
        return
    if phases[-1].get("solver"):
        refuse(
            f"resume={folder}: a solver computed the head of this run, so more epochs would change nothing; start a "
            "new run with another penalty, data or strategy."
        )
    if phases[-1].get("epochs"):
        refuse(f"resume={folder}: its last phase has epochs={phases[-1]['epochs']}, so the run cannot be extended.")
    if not wanted.isdecimal() or int(wanted) <= (epochs if finished else 0):
        above = "name a whole number above that" if finished else "name a whole number"
        refuse(f"resume={folder} {_EPOCHS}={wanted}: the run has {epochs} epochs; {above}.")
