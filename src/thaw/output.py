"""Where runs and sweeps are kept, before Hydra writes there."""

import os
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from thaw.ranks import is_first_process


class WritableFolder(Callback):
    """Ends the program with a sentence and status 2 where Hydra would end in a traceback."""

    def on_run_start(self, config: DictConfig, **rest) -> None:
        refuse_paths(config)
        _refuse_unwritable(config, "run")

    def on_multirun_start(self, config: DictConfig, **rest) -> None:
        if "TORCHELASTIC_RUN_ID" in os.environ or not is_first_process():
            _refuse(
                "torchrun and srun start a single run; a sweep is started once, and starts the processes of its jobs."
            )
        _refuse_unwritable(config, "sweep")


def refuse_paths(config: DictConfig) -> None:
    """Refuse options that are no names: those name folders as well, and Hydra takes `../x` for one, and none at all."""
    for group, option in config.hydra.runtime.choices.items():
        if ".." in Path(str(option)).parts or Path(str(option)).is_absolute():
            _refuse(f"{group}={option} is a path where the name of an option is needed.")
    for group in ("data", "model", "strategy"):
        if group not in config.hydra.runtime.choices:
            _refuse(f"{group} is not chosen, and every run needs one; python train.py --help lists the options.")


def _refuse_unwritable(config: DictConfig, kind: str) -> None:
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(config)  # which the folder's name refers to
    try:
        folder = Path(config.hydra[kind].dir)
    finally:
        HydraConfig.instance().cfg = before
    trial = folder / ".trial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial.write_bytes(bytes(4096))
        trial.unlink(missing_ok=True)  # of several processes, another may have done it
    except OSError as error:
        reason = f"the output folder {folder} cannot be written ({error.strerror})"
        _refuse(f"{reason}: choose another one with hydra.{kind}.dir=….")


def _refuse(sentence: str) -> None:
    print(f"error: {sentence}", file=sys.stderr)
    raise SystemExit(2)
