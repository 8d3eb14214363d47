"""Where runs and sweeps are kept, before Hydra writes there."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from thaw.errors import UserError, error_with_sentence
from thaw.pages.text import printable
from thaw.runs.configuration import as_hydra_config
from thaw.runs.ownership import new_folder, refuse_inside
from thaw.runs.ranks import is_first_process
from thaw.runs.run_folder import hold_run_folder
from thaw.runs.shown_commands import option
from thaw.runs.writable import try_to_write
from thaw.sweep.execution import refuse_other_folder


@contextmanager
def _told() -> Iterator[None]:
    """Refuse references to nothing: of what a callback raises Hydra only warns."""
    try:
        yield
    except OmegaConfBaseException as error:
        _refuse(str(error_with_sentence(error) or error))


class OwnFolder(Callback):
    """Ends the program with a sentence and status 2 where the folder cannot be this run's or sweep's alone."""

    @_told()
    def on_run_start(self, config: DictConfig, **rest) -> None:
        refuse_paths(config)
        if is_first_process():
            _prepare(config, "run", partial(hold_run_folder, resumed=bool(config.get("resume"))))

    @_told()
    def on_multirun_start(self, config: DictConfig, **rest) -> None:
        if "TORCHELASTIC_RUN_ID" in os.environ or not is_first_process():
            _refuse(
                "torchrun and srun start a single run; a sweep is started once, and starts the processes of its jobs."
            )
        _prepare(config, "sweep", refuse_other_folder)


def _prepare(config: DictConfig, kind: str, check: Callable[[Path], None]) -> None:
    folder = _place(config, kind)
    with _told_unwritable(folder, kind):
        try:
            check(folder)
        except UserError as error:
            _refuse(f"{error}")
        try_to_write(folder)


def refuse_paths(config: DictConfig) -> None:
    """Refuse options that are no names: those name folders as well, and Hydra takes `../x` for one, and none at all."""
    for group, name in config.hydra.runtime.choices.items():
        if ".." in Path(str(name)).parts or Path(str(name)).is_absolute():
            _refuse(f"{group}={name} is a path where the name of an option is needed.")
    for group in ("data", "model", "strategy"):
        if group not in config.hydra.runtime.choices:
            _refuse(f"{group} is not chosen, and every run needs one; python train.py --help lists the options.")
    if config.hydra.job.chdir:
        _refuse_relative(config)


def _refuse_relative(config: DictConfig) -> None:
    """Refuse paths that would be looked for in the run's folder, which Hydra makes the working directory."""
    for key in ("data.root", "weights"):
        told = OmegaConf.select(config, key, throw_on_missing=False)
        path = Path(os.path.expanduser(told)) if isinstance(told, str) else Path("/")
        if not path.is_absolute() and path.exists():
            _refuse(
                f"hydra.job.chdir=true would look for {key}={told} in the run's folder: give the whole path, "
                f"{option(key, path.absolute())}, or leave hydra.job.chdir out; a run's files go to its folder anyway."
            )


def _place(config: DictConfig, kind: str) -> Path:
    """Where the run or sweep is to be: a new folder, unless the command line names one."""
    with as_hydra_config(config):  # which the folder's name refers to
        folder = Path(config.hydra[kind].dir)
    if "${" in str(folder):
        _refuse(
            f"the output folder {folder} has ${{ in its name, which would be taken for a reference: choose another."
        )
    root = OmegaConf.select(config, "data.root")
    if isinstance(root, str) and not config.get("resume"):
        try:
            refuse_inside(folder, Path(root).expanduser(), f"hydra.{kind}.dir")
        except UserError as error:
            _refuse(f"{error}")
    if any(override.startswith(f"hydra.{kind}.dir=") for override in config.hydra.overrides.hydra):
        return folder
    with _told_unwritable(folder, kind):
        folder = new_folder(folder)
    with read_write(config.hydra):
        config.hydra[kind].dir = str(folder)
    return folder


@contextmanager
def _told_unwritable(folder: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = f"the output folder {folder} cannot be written ({error.strerror})"
        _refuse(f"{reason}: choose another one with hydra.{kind}.dir=….")


def _refuse(sentence: str) -> None:
    print(f"error: {printable(sentence)}", file=sys.stderr)
    raise SystemExit(2)
