"""Hydra callback that chooses and checks the folder of a run or sweep before Hydra writes there."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from thaw.errors import UserError, error_with_sentence
from thaw.runs.configuration import as_hydra_config
from thaw.runs.ownership import new_folder, note_new, refuse_inside
from thaw.runs.ranks import is_first_process
from thaw.runs.run_folder import hold_run_folder
from thaw.runs.shown_commands import option
from thaw.runs.streams import refuse
from thaw.runs.writable import try_to_write
from thaw.sweep.execution import refuse_other_folder


@contextmanager
def _faults_end_the_program() -> Iterator[None]:
    """Exit with an error message for a known fault, because Hydra only warns about errors in a callback."""
    try:
        yield
    except UserError as error:
        refuse(f"{error}")
    except (OmegaConfBaseException, RuntimeError) as error:
        refuse(str(error_with_sentence(error) or error))


_GO_ON = (".ShortlistSweeper", ".SearchSweeper")  # without a time in the folder's name: the same command resumes


class OwnFolder(Callback):
    """Exits with an error message and status 2 if this run or sweep cannot have its folder to itself."""

    @_faults_end_the_program()
    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        refuse_paths(config)
        if is_first_process():
            _prepare(config, "run", partial(hold_run_folder, resumed=bool(config.get("resume"))))

    @_faults_end_the_program()
    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        if "TORCHELASTIC_RUN_ID" in os.environ or not is_first_process():
            refuse(
                "torchrun and srun start a single run: start a sweep without them; its jobs start their own processes."
            )
        _prepare(config, "sweep", refuse_other_folder)


def _prepare(config: DictConfig, kind: str, check: Callable[[Path], None]) -> None:
    """Choose the folder of a run or sweep, check it, and test whether it is writable."""
    with as_hydra_config(config):  # the folder's name refers to Hydra's values
        folder = Path(config.hydra[kind].dir)
    if "${" in str(folder):
        refuse(f"the output folder {folder} has ${{ in its name, which Hydra reads as a reference: choose another one.")
    root = OmegaConf.select(config, "data.root")
    if root == "":
        refuse("data.root is empty: name the folder of your images, data.root=PHOTOS.")
    if isinstance(root, str) and not config.get("resume"):
        refuse_inside(folder, Path(root).expanduser(), f"hydra.{kind}.dir")
    try:
        given = any(override.startswith(f"hydra.{kind}.dir=") for override in config.hydra.overrides.hydra)
        if not given and not (kind == "sweep" and config.hydra.sweeper._target_.endswith(_GO_ON)):
            folder = new_folder(folder)
            with read_write(config.hydra):
                config.hydra[kind].dir = str(folder)
        else:
            note_new(folder)
        check(folder)
        try_to_write(folder)
    except OSError as error:
        reason = f"the output folder {folder} cannot be written ({error.strerror})"
        refuse(f"{reason}: choose another one with hydra.{kind}.dir=….")


def refuse_paths(config: DictConfig) -> None:
    """Refuse group options that are paths or missing: folders are named after them, and Hydra accepts `../x`."""
    for group, name in config.hydra.runtime.choices.items():
        if ".." in Path(str(name)).parts or Path(str(name)).is_absolute():
            refuse(f"{group}={name} is a path where the name of an option is needed.")
    for group in ("data", "model", "strategy"):
        if group not in config.hydra.runtime.choices:
            refuse(f"{group} is not chosen, and every run needs one; python train.py --help lists the options.")
    if len(Path(str(config.hydra.job.name)).parts) != 1:
        refuse(f"hydra.job.name={config.hydra.job.name} is a path where a name is needed: the log is named after it.")
    if config.hydra.job.chdir:
        _refuse_relative(config)


def _refuse_relative(config: DictConfig) -> None:
    """Refuse relative paths if Hydra changes to the run's folder, because they would then refer to this folder."""
    for key in ("data.root", "weights"):
        value = OmegaConf.select(config, key, throw_on_missing=False)
        path = Path(os.path.expanduser(value)) if isinstance(value, str) else Path("/")
        if not path.is_absolute() and path.exists():
            refuse(
                f"hydra.job.chdir=true would look for {key}={value} in the run's folder. Give the whole path, "
                f"{option(key, path.absolute())}, or omit hydra.job.chdir: a run's files go to its folder anyway."
            )
