"""Check the top-level keys of a configuration: which keys exist, and which values they accept."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from thaw.errors import UserError
from thaw.runs.configuration import flat
from thaw.runs.type_hints import describe, fits

_KEYS: dict[str, Any] = {
    "seed": int, "weights": Any, "compile": bool, "graph": bool | str, "channels_last": bool | str, "data": dict,
    "head": dict, "features": dict, "strategy": dict, "loss": dict, "mix": dict | None, "model": dict,
    "optimizer": dict, "scheduler": dict, "callbacks": dict, "logger": dict, "trainer": dict,
    "robustness": bool, "lr_factor": float,
}  # fmt: skip
_COLLECTIONS = ("callbacks", "logger")
_SEEDS = 2**32  # NumPy accepts seeds from 0 to 2**32 - 1


def check_root_keys(cfg: DictConfig, values: Mapping) -> None:
    """Raise UserError if a top-level key is missing or unknown, or has a wrong value.

    `values` are the values of `cfg` as plain dicts and lists.
    """
    for key, kind in _KEYS.items():
        if key not in values:
            raise UserError(f"{key} is missing, but every run needs it; python train.py --cfg job shows the default.")
        if not fits(values[key], kind):
            raise UserError(f"{key}={values[key]!r} must be {describe(kind)}.")
        if kind is dict and key not in _COLLECTIONS and "_target_" not in values[key]:
            raise UserError(f"{key}._target_ is missing: it names the class or function that builds this part.")
    for key in values.keys() - _KEYS.keys():
        if f"${{{key}" not in OmegaConf.to_yaml(cfg):  # unless another value refers to the key
            near = nearest(key, [known for known in value_keys(values) if known != key])
            raise UserError(f"{key} is not a key of the configuration{f'; did you mean {near}?' if near else '.'}")
    if values["mix"] and "_target_" not in values["mix"]:
        raise UserError("mix has no _target_: choose mix=mixup, mix=cutmix or mix=mixup_cutmix.")
    if type(values["weights"]) is not str:
        raise UserError(f"weights={values['weights']!r} must be imagenet, demo, none or the path of a file.")
    for key in _COLLECTIONS:
        for name, part in values[key].items():
            if part is not None and not (isinstance(part, dict) and "_target_" in part):
                raise UserError(
                    f"{key}.{name}={part!r} has no _target_: choose an option of conf/{key} with {key}=NAME."
                )
    if not 0 <= values["seed"] < _SEEDS:
        raise UserError(f"seed={values['seed']} must be a whole number from 0 to {_SEEDS - 1}.")
    if values["channels_last"] not in (True, False, "auto"):
        raise UserError(f"channels_last={values['channels_last']!r} must be auto, true or false.")


def value_keys(values: Mapping) -> list[str]:
    """Return the dotted paths of all values that are not mappings, except Hydra's keys such as `_target_`."""
    values = {key: value for key, value in flat(values).items() if value != {}}
    return [key for key in values if not key.rpartition(".")[2].startswith("_")]


def nearest(name: str, choices: Sequence[str]) -> str | None:
    """Return the choice whose part after the last dot is spelled most like `name`, or None."""
    last_parts = {choice.rpartition(".")[2]: choice for choice in reversed(choices)}
    found = difflib.get_close_matches(name, last_parts, n=1)
    return last_parts[found[0]] if found else None
