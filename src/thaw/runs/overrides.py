"""Handle command lines that Hydra rejects: add a missing `+` where the meaning is clear, or explain the error."""

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from thaw.errors import UserError
from thaw.runs.moved_names import current_name
from thaw.runs.shown_commands import option
from thaw.runs.targets import refuse_foreign_targets

_MISSING = re.compile(r"Could not override '(.+?)'")
_THERE = re.compile(r"(?:An item is already at '(.+?)'|Multiple values for (\S+?)\. )")
_SEVERAL = re.compile(r"Ambiguous value for argument '(.+)'")
_PLACES = re.compile(r"\s*(Config search path|Search path|See https://hydra\.cc).*", re.DOTALL)


def with_additions(error: HydraException, arguments: list[str], conf: Path) -> list[str] | None:
    """Return `arguments` with a `+` before each key that the configuration lacks but the configured class accepts.

    Return None if this does not remove `error`, for example because a key is misspelled.
    """
    if not _MISSING.match(str(error)):
        return None
    cfg, unknown = _composed(arguments, conf)
    if cfg is None or not all(_key(override) in _further_keys(cfg, _key(override)) for override in unknown):
        return None
    return [f"+{argument}" if argument in unknown else argument for argument in arguments]


def describe_fault(error: Exception, arguments: Sequence[str], conf: Path) -> str:
    """Return one sentence that explains why Hydra raised `error` for the command-line `arguments`."""
    message = str(error)
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override)
    if isinstance(error, MissingConfigException) and error.options:
        return _no_option(str(error.missing_cfg_file), error.options)
    if missing := _MISSING.match(message):
        return _no_key(missing[1], arguments, conf)
    if there := _THERE.search(message):
        key = there[1] or there[2]
        given = [argument for argument in arguments if _key(argument) == key and argument.startswith("+")]
        return f"{key} is set already: write {' '.join(given).removeprefix('+') or f'{key}=…'}, without +."
    if several := _SEVERAL.match(message):
        return f"{several[1]} has several values: add -m to run each, or write {_in_quotes(several[1])} for one value."
    return f"{' '.join(_PLACES.sub('', message).split()).rstrip('.')}."


def _unreadable(override: str) -> str:
    if "=" not in override:
        return f"{override} is not an option: options are key=value; python train.py --help lists them."
    return f"{override} cannot be read: put its value in quotes, {_in_quotes(override)}."


def _in_quotes(override: str) -> str:
    key, _, value = override.partition("=")
    return option(key, value)


def _no_option(file: str, options: Sequence[str]) -> str:
    group, _, name = file.rpartition("/")
    near = difflib.get_close_matches(name, options, n=1)
    meant = f"did you mean {near[0]}? The" if near else "the"
    return f"{group}={name} is not an option of {group}; {meant} choices are {', '.join(options)}."


def _no_key(key: str, arguments: Sequence[str], conf: Path) -> str:
    cfg, _ = _composed(arguments, conf)
    keys = [*_keys(cfg), *_further_keys(cfg, key)] if cfg is not None else []
    near = _nearest(key, keys)
    hint = f"did you mean {near}?" if near else f"python train.py --help lists the keys, and +{key}=… adds one."
    return f"{key} is not a key of the configuration; {hint}"


def _composed(arguments: Sequence[str], conf: Path) -> tuple[DictConfig | None, list[str]]:
    """Return the composed configuration, and the overrides that it leaves out because their keys do not exist.

    The configuration is None if composing fails for another reason. A sweep yields the first job's configuration.
    """
    given = [one for one in arguments if not one.startswith("-") and ("=" in one or one.startswith("~"))]
    unknown: list[str] = []
    while True:
        try:
            with initialize_config_dir(str(conf.parent.absolute()), version_base="1.3"):
                return compose(conf.stem, [_first(one) for one in given if one not in unknown]), unknown
        except HydraException as error:
            missing = _MISSING.match(str(error))
            found = [one for one in given if missing and _key(one) == missing[1] and one not in unknown]
            if not found:
                return None, unknown
            unknown += found


def _first(argument: str) -> str:
    """Replace the values of a sweep by the first one: return `lr=1` for `lr=1,2`."""
    override = OverridesParser.create().parse_override(argument)
    if not override.is_sweep_override():
        return argument
    return f"{override.get_key_element()}={next(override.sweep_string_iterator())}"


def _further_keys(cfg: DictConfig, key: str) -> list[str]:
    """Return all keys that are accepted beside `key`: for `optimizer.x`, all options of the optimizer."""
    from thaw.runs.call_signatures import parameters

    parent = key.rpartition(".")[0]
    component = OmegaConf.select(cfg, parent) if parent else None
    target = component.get("_target_") if isinstance(component, DictConfig) else None
    if not isinstance(target, str):
        return []
    try:
        target = current_name(target)
        refuse_foreign_targets({"_target_": target})
        return [f"{parent}.{name}" for name in parameters(get_object(target)) or ()]
    except (UserError, HydraException, ImportError):
        return []


def _keys(values: DictConfig, prefix: str = "") -> Iterator[str]:
    for name in values:
        yield f"{prefix}{name}"
        inner: Any = values._get_node(name)
        if isinstance(inner, DictConfig) and not inner._is_none() and not inner._is_interpolation():
            yield from _keys(inner, f"{prefix}{name}.")


def _nearest(key: str, keys: Sequence[str]) -> str | None:
    """Return the key with the same last part as `key`, otherwise the key spelled most like `key`, or None."""
    name = key.rpartition(".")[2]
    same = [other for other in keys if other.rpartition(".")[2] == name]
    last_parts = {other.rpartition(".")[2]: other for other in reversed(keys)}
    like = difflib.get_close_matches(key, keys, n=1, cutoff=0.8)
    alike = [last_parts[other] for other in difflib.get_close_matches(name, last_parts, n=1, cutoff=0.7)]
    return next(iter([*same, *like, *alike]), None)


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")
