"""What a run was asked for, in plain values: two runs with equal ones do the same."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from thaw.errors import UserError, error_with_sentence
from thaw.storage.files import whole_file

FILE = Path(".hydra") / "resolved.yaml"
CHANGEABLE = ("data.root", "trainer.max_epochs", "trainer.max_time")  # when a run goes on


def resolved(cfg: DictConfig) -> dict:
    """The task's configuration with every reference replaced by its value, but for where the run is kept.

    Raises:
        UserError: naming a reference to nothing.

    """
    task = copy.deepcopy(cfg)
    with open_dict(task):
        task.pop("hydra", None)
        task.output_dir, task.resume = ".", None  # callbacks and loggers have their paths from there
    try:
        values = OmegaConf.to_container(task, resolve=True)
    except OmegaConfBaseException as error:
        raise error_with_sentence(error) or error from error
    return {key: value for key, value in values.items() if key not in ("output_dir", "resume")}


def chosen_values(cfg: DictConfig, weights: str, image_size: int) -> dict[str, object]:
    """What makes a run what it is, as a table of runs has it: its main values, and whatever its command line set.

    `weights` and `image_size` are those that it has used.
    """
    hydra = HydraConfig.get()
    values = {group: hydra.runtime.choices[group] for group in ("strategy", "data")}
    values |= {"model": cfg.model.name, "weights": weights, "seed": cfg.seed, "strategy.lr": cfg.strategy.lr}
    values |= {"data.image_size": image_size, "data.batch_size": cfg.data.batch_size}
    values |= {"trainer.max_epochs": cfg.trainer.max_epochs}
    for override in hydra.overrides.task:
        key, _, told = override.lstrip("+~").partition("=")
        if key not in (*values, "resume", "sweep", "output_dir"):
            value = OmegaConf.select(cfg, key)
            values[key] = value if isinstance(value, int | float | str) else told
    return values


def resolved_job(cfg: DictConfig) -> dict:
    """Return what `resolved` does for a configuration that holds Hydra's own values and is not being run."""
    with as_hydra_config(cfg):
        return resolved(cfg)


@contextmanager
def as_hydra_config(cfg: DictConfig) -> Iterator[None]:
    """Have `${hydra:…}` refer to the values of `cfg`, which is not being run."""
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(cfg)
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before


def configuration_files(cfg: DictConfig) -> dict[str, str]:
    """Return the files of `.hydra` by name: what Hydra would write before the run, and the resolved values."""
    hydra = HydraConfig.instance().cfg
    return {
        "config.yaml": OmegaConf.to_yaml(cfg),
        "hydra.yaml": OmegaConf.to_yaml(OmegaConf.masked_copy(hydra, "hydra")),
        "overrides.yaml": OmegaConf.to_yaml(hydra.hydra.overrides.task),
        FILE.name: OmegaConf.to_yaml(resolved(cfg)),
    }


def write_configuration(files: Mapping[str, str], folder: Path) -> None:
    (folder / FILE).parent.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        with whole_file(folder / FILE.with_name(name)) as file:
            file.write(text)


def refuse_other_configuration(cfg: DictConfig, folder: Path) -> None:
    """Compare the run in `folder`, if there is one, with what is asked for.

    Its images may lie elsewhere now: whether they are the same, `thaw.data.fingerprint` says. How long it is trained
    may change: `thaw.runs.resume` says whether it can.

    Raises:
        UserError: naming the first value that differs.

    """
    before, now = _flat(read_resolved(folder)) if is_run(folder) else {}, _flat(resolved(cfg))
    for key in sorted(before.keys() | now.keys()) if before else ():
        if before.get(key) != now.get(key) and key not in CHANGEABLE:
            raise UserError(
                f"resume={folder}: the run was started with {key}={before.get(key)!r}, and it is {now.get(key)!r} now; "
                "continue it as it was, or start another."
            )


def _flat(values: object, prefix: str = "") -> dict[str, object]:
    """{a: {b: 1}} -> {a.b: 1}"""
    if not isinstance(values, dict) or not values:
        return {prefix.removesuffix("."): values}
    return {key: value for name, inner in values.items() for key, value in _flat(inner, f"{prefix}{name}.").items()}


def is_run(folder: Path) -> bool:
    """Whether a run has been started in `folder`."""
    return (folder / FILE).is_file()


def read_resolved(folder: Path) -> dict:
    return OmegaConf.to_container(OmegaConf.load(folder / FILE), resolve=False)
