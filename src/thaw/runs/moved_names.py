"""Former names of classes and functions: configurations that contain them, and runs of earlier versions, still work."""

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
    """Return the current name of a class or function that a configuration names."""
    return _NAMES.get(name, name)


def with_current_names(values: Any) -> Any:
    """Return plain `values` with each former name of a class or function replaced by the current one."""
    if isinstance(values, dict):
        return {key: with_current_names(value) for key, value in values.items()}
    if isinstance(values, list):
        return [with_current_names(value) for value in values]
    return current_name(values) if isinstance(values, str) else values


def use_current_names(cfg: DictConfig | ListConfig) -> None:
    """Replace each former name of a class or function in `cfg`, and log its current name once."""
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
