"""Construction of a search from its command line."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from thaw.data.option_values import whole_number
from thaw.data.workers import usable_cores
from thaw.errors import UserError
from thaw.sweep.chosen_backbones import backbones, wanted_backbones
from thaw.sweep.search.search_space import INSTANCES, STRATEGY, Space, dimension, parsed
from thaw.sweep.search.time_budget import seconds_of

_OWN = ("budget", "trials", "backbones", "sweep", "search")  # keys of a search, which its runs do not have


@dataclass(frozen=True)
class Plan:
    """A search as its command line describes it.

    Args:
        fixed: the overrides of all runs.
        asked: keys that the command line, not conf/search, asks to vary.
        budget: in seconds.
        trials: the number of trials after which the search ends, or None.
        workers: the number of processes.
        seed: the largest seed of a trial.

    """

    space: Space
    fixed: list[str]
    asked: list[str]
    budget: float
    trials: int | None
    workers: int
    seed: int


def plan_search(config: DictConfig, arguments: Sequence[str], models: Sequence[str]) -> Plan:
    """Return the plan for command-line `arguments`; `models` are the options of conf/model.

    Raises:
        UserError: for values that cannot be searched.

    """
    given = [one for one in parsed(arguments) if one.key_or_group.partition(".")[0] not in _OWN]
    configured = parsed(f"{key}={text}" for key, text in config.search.space.items())
    overrides = {one.get_key_element(): one for one in (*configured, *given)}  # the command line's replace the others
    swept = {key: one for key, one in overrides.items() if one.is_sweep_override()}
    fixed = [str(one.input_line) for one in overrides.values() if not one.is_sweep_override()]
    found = _backbones(config, arguments, given, models)
    strategies = _values(swept.pop(STRATEGY)) if STRATEGY in swept else [_fixed_strategy(config, given)]
    fixed = [one for one in fixed if not one.startswith(f"{STRATEGY}=")]
    repeated = [[f"{key}={value}" for value in _values(swept.pop(key))] for key in INSTANCES if key in swept]
    space = Space(
        found, strategies, [dimension(one) for one in swept.values()], [list(one) for one in product(*repeated)]
    )
    whole_number("sweep.workers", config.sweep.workers, 1, usable_cores())
    if config.trials is not None:
        whole_number("trials", config.trials)
    seeds = [
        whole_number(*_pair(one), 0) for instance in space.instances for one in instance if one.startswith("seed=")
    ]
    return Plan(
        space,
        fixed,
        [one.get_key_element() for one in given if one.is_sweep_override()],
        seconds_of(config.budget),
        config.trials,
        config.sweep.workers,
        max([config.seed, *seeds]),
    )


def _pair(override: str) -> tuple[str, int | str]:
    """Return key and value of an override, the value as a whole number if it is one."""
    key, _, value = override.partition("=")
    return key, int(value) if value.isdecimal() else value


def _values(override: Override) -> list[str]:
    if not override.is_discrete_sweep():
        raise UserError(f"{override.input_line}: list the values of {override.get_key_element()}, separated by commas.")
    return [str(value) for value in override.sweep_string_iterator()]


def _fixed_strategy(config: DictConfig, given: Sequence[Override]) -> str:
    values = [one.value() for one in given if one.key_or_group == STRATEGY]
    if values and not isinstance(values[-1], str):
        raise UserError(f"{STRATEGY}={values[-1]} names no strategy: list some, as in strategy=probe,fine_tune.")
    return str(values[-1]) if values else config.hydra.runtime.choices.strategy


def _backbones(
    config: DictConfig, arguments: Sequence[str], given: Sequence[Override], models: Sequence[str]
) -> dict[str, list[str]]:
    """Return the overrides that choose each backbone, by its name; of a fixed `model` none."""
    fixed = [one for one in given if one.key_or_group == "model"]
    named = any(argument.startswith("backbones=") for argument in arguments)
    if fixed and named:
        raise UserError(f"{fixed[0].input_line} and backbones=… both choose networks: leave one of them out.")
    if fixed and not fixed[0].is_sweep_override():
        return {str(fixed[0].value()): []}
    values = fixed[0].value().list if fixed else None  # type: ignore[union-attr]
    wanted = list(values) if values else wanted_backbones(parsed(arguments), config.backbones)
    has_weights = config.weights == "imagenet" or any(one.key_or_group == "weights" for one in given)
    chosen = backbones(wanted, models, None if has_weights else "imagenet")
    return {_name(overrides): overrides for overrides in chosen}


def _name(overrides: Sequence[str]) -> str:
    """Return a short name: the model, and the options that are not the published weights."""
    values = [one for one in overrides if one not in ("weights=imagenet", "model=timm", "model=torchvision")]
    return " ".join(one.removeprefix("model=").removeprefix("model.name=") for one in values)
