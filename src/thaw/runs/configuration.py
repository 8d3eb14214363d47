"""Read, compare and write a run's configuration. Runs with equal values on the same images give equal results."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from thaw.errors import UserError, error_with_sentence
from thaw.runs import run_files
from thaw.runs.moved_names import with_current_names
from thaw.storage.files import write_whole

# Options that runs of earlier versions lack, with the values under which those runs trained.
_ADDED = {"robustness": False, "lr_factor": 1.0, "data": {"val_as_test": False, "test": True, "table": None}}
# Keys whose values may change when a run is resumed. The keys in _SPEED affect the speed (data.decoder also changes
# some pixels by one grey level). Runs of earlier versions lack the keys in _SPEED.
_SPEED = ("graph", "data.pixels_gb", "data.device_gb", "data.decoder", "features.device_gb")
CHANGEABLE = ("data.root", "trainer.max_epochs", "trainer.max_time", *_SPEED)


def resolved(cfg: DictConfig) -> dict:
    """Return the run's configuration as a dict with references resolved, without the keys `output_dir` and `resume`.

    Raises:
        UserError: if a reference names a key that does not exist.

    """
    task = copy.deepcopy(cfg)
    with open_dict(task):
        task.pop("hydra", None)
        task.output_dir, task.resume = ".", None  # paths of callbacks and loggers contain output_dir
    try:
        values = cast(dict, OmegaConf.to_container(task, resolve=True))
    except OmegaConfBaseException as error:
        raise error_with_sentence(error) or error from error
    return {key: value for key, value in values.items() if key not in ("output_dir", "resume")}


def chosen_values(cfg: DictConfig, weights: str, image_size: int) -> dict[str, object]:
    """Return, for a table of runs, this run's main options and all options set on the command line.

    `weights` and `image_size` are the values that the run actually used.
    """
    hydra = HydraConfig.get()
    values: dict[str, object] = {group: hydra.runtime.choices[group] for group in ("strategy", "data")}
    values |= {"model": cfg.model.name, "weights": weights, "seed": cfg.seed, "strategy.lr": cfg.strategy.lr}
    values |= {"data.image_size": image_size, "data.batch_size": cfg.data.batch_size}
    values |= {"trainer.max_epochs": cfg.trainer.max_epochs}
    for override in hydra.overrides.task:
        key, _, text = override.lstrip("+~").partition("=")
        if key not in (*values, "resume", "sweep", "output_dir"):
            value = OmegaConf.select(cfg, key)
            values[key] = value if isinstance(value, int | float | str) else text
    return values


def resolved_job(cfg: DictConfig) -> dict:
    """Return `resolved(cfg)` for a job that is not running; `cfg` must include Hydra's own key `hydra`."""
    with as_hydra_config(cfg):
        return resolved(cfg)


@contextmanager
def as_hydra_config(cfg: DictConfig) -> Iterator[None]:
    """Inside the block, resolve `${hydra:…}` with the values of `cfg` instead of those of the running job."""
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(cfg)
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before


def configuration_files(cfg: DictConfig) -> dict[str, str]:
    """Return the text of each file in `.hydra`, by its path: the files that Hydra writes, and `resolved.yaml`."""
    hydra = cast(DictConfig, HydraConfig.instance().cfg)
    return {
        run_files.CONFIG: OmegaConf.to_yaml(cfg),
        run_files.HYDRA_CONFIG: OmegaConf.to_yaml(OmegaConf.masked_copy(hydra, "hydra")),
        run_files.OVERRIDES: OmegaConf.to_yaml(hydra.hydra.overrides.task),
        run_files.RESOLVED: OmegaConf.to_yaml(resolved(cfg)),
    }


def write_configuration(files: Mapping[str, str], folder: Path) -> None:
    for name, text in files.items():
        write_whole(folder / name, text)


def refuse_other_configuration(cfg: DictConfig, folder: Path) -> None:
    """Raise an error if `cfg` differs from the configuration of the run in `folder`; without a run there, do nothing.

    The keys in `CHANGEABLE` may differ. `thaw.data.fingerprint` checks that the images are the same, and
    `thaw.runs.resume` checks a new number of epochs.

    Raises:
        UserError: if another key differs; the message names the first one.

    """
    before, now = flat(read_resolved(folder)) if is_run(folder) else {}, flat(resolved(cfg))
    for key in sorted(before.keys() | now.keys()) if before else ():
        if before.get(key) != now.get(key) and key not in CHANGEABLE:
            raise UserError(
                f"resume={folder}: the run was started with {key}={before.get(key)!r}, not {now.get(key)!r}; "
                "resume the run without this change, or start a new run."
            )


def flat(values: object, prefix: str = "") -> dict[str, object]:
    """Return nested `values` as one dict with dotted keys: {"a.b": 1} for {"a": {"b": 1}}."""
    if not isinstance(values, dict) or not values:
        return {prefix.removesuffix("."): values}
    return {key: value for name, inner in values.items() for key, value in flat(inner, f"{prefix}{name}.").items()}


def is_run(folder: Path) -> bool:
    """Return whether a run has been started in `folder`."""
    return (folder / run_files.RESOLVED).is_file()


def read_resolved(folder: Path) -> dict:
    """Return the configuration of the run in `folder`, with the current names of classes and functions.

    An option that Thaw added after the run has the value under which this run trained.
    """
    values = with_current_names(OmegaConf.to_container(OmegaConf.load(folder / run_files.RESOLVED), resolve=False))
    for key, added in _ADDED.items():
        if not isinstance(added, dict):
            values.setdefault(key, added)
        elif isinstance(values.get(key), dict):
            values[key] = {**added, **values[key]}
    return values
