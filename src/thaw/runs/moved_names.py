"""Translate former names of Thaw's classes and functions, so that older configurations and runs still work."""

import logging
from functools import cache
from typing import Any

from omegaconf import DictConfig, ListConfig, read_write

log = logging.getLogger(__name__)

_NAMES = {
    "thaw.data.datamodule.ImageFolderDataModule": "thaw.data.datamodule.image_folders",
    "thaw.data.demo.target_folder": "thaw.demo.datasets.target_folder",
    "thaw.features.cache.FeatureCache": "thaw.training.phase_data.FeatureCache",
    "thaw.models.families.timm_nets.build_timm_net": "thaw.models.families.timm.build_timm_net",
    "thaw.models.timm_nets.build_timm_net": "thaw.models.families.timm.build_timm_net",
    "thaw.output.OwnFolder": "thaw.sweep.own_folder.OwnFolder",
    "thaw.output.WritableFolder": "thaw.sweep.own_folder.OwnFolder",
    "thaw.probe.solver.LogisticProbe": "thaw.features.linear_solver.LogisticProbe",
}


def current_name(name: str) -> str:
    """Return the current name of a class or function; `name` may be a former or the current name."""
    return _NAMES.get(name, name)


def with_current_names(values: Any) -> Any:
    """Return nested `values` with each former name of a class or function replaced by the current name."""
    if isinstance(values, dict):
        return {key: with_current_names(value) for key, value in values.items()}
    if isinstance(values, list):
        return [with_current_names(value) for value in values]
    return current_name(values) if isinstance(values, str) else values


def use_current_names(cfg: DictConfig | ListConfig) -> None:
    """Replace in `cfg` each former name of a class or function, and log each replacement once per process."""
    for key in list(cfg) if isinstance(cfg, DictConfig) else range(len(cfg)):
        node: Any = cfg._get_node(key)
        if isinstance(node, DictConfig | ListConfig):
            if not (node._is_none() or node._is_missing() or node._is_interpolation()):
                use_current_names(node)
            continue
        value = node._value()
        if isinstance(value, str) and current_name(value) != value:
            _log_once(value, current_name(value))
            with read_write(cfg):
                cfg[key] = current_name(value)


@cache
def _log_once(former: str, current: str) -> None:
    log.info(f"{former} is now called {current}; the configuration still contains the former name")
