"""Components of a configuration: checked against what their code takes, and built."""

import difflib
import importlib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object
from hydra.utils import instantiate as built_by_hydra
from omegaconf import DictConfig, OmegaConf

from thaw.errors import RunError, UserError, error_with_sentence
from thaw.runs import reserved_options
from thaw.runs.call_signatures import parameters
from thaw.runs.type_hints import describe, fits

_KEYS = {
    "seed": int, "weights": Any, "compile": bool, "channels_last": bool | str, "data": dict, "head": dict,
    "features": dict, "strategy": dict, "loss": dict, "mix": dict | None, "model": dict, "optimizer": dict,
    "scheduler": dict, "callbacks": dict, "logger": dict, "trainer": dict,
}  # fmt: skip
_SEEDS = 2**32  # which NumPy takes
_BUILT_LATER = ("optimizer", "scheduler")  # in every phase, with what they are for as their first argument
_PHASE = re.compile(r"strategy\.phases\.\d+\.(optimizer|scheduler)")


def check_components(cfg: DictConfig, values: Mapping) -> None:
    """Compare a configuration and its plain `values`, with references resolved, with the code that they name.

    Raises:
        UserError: for the first key that nothing reads, that is overwritten, missing, or of the wrong kind.

    """
    _check_keys(cfg, values)
    for path, component in components(values):
        _check(path, component, values)
    told = reserved_options.fault(values)
    if told:
        raise UserError(f"{told}.")


def components(value: Any, path: str = "") -> Iterator[tuple[str, Mapping]]:
    """Every part that names a `_target_`, with its path: `strategy.phases.0.solver`."""
    if isinstance(value, Mapping) and isinstance(value.get("_target_"), str):
        yield path, value
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        if path != "trainer" or name not in ("callbacks", "logger"):  # which are those of the groups
            yield from components(inner, f"{path}.{name}".lstrip("."))


def instantiate(part: Any, **given: object) -> Any:
    """What `part` of a configuration describes, as Hydra builds it.

    Raises:
        UserError: if its code refuses the arguments.

    """
    try:
        return built_by_hydra(_literal(part), **given)
    except InstantiationException as error:
        cause = error.__cause__
        if error_with_sentence(error) or not _is_refusal(cause):
            raise
        raise UserError(f"{part._get_full_key(None)}: {first_line(cause)}.") from error


def _literal(part: Any) -> Any:
    """`part` with each `${` in a resolved value, such as a path, as text, which Hydra would resolve once more."""
    values = OmegaConf.to_container(part, resolve=True) if isinstance(part, DictConfig) else part
    return _escaped(values) if "${" in str(values) else part


def _escaped(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _escaped(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_escaped(inner) for inner in value]
    return value.replace("${", r"\\\${") if isinstance(value, str) else value


def first_line(error: BaseException) -> str:
    """What an exception says, without a full stop; the kind of those that say little."""
    lines = str(error).strip().splitlines()
    told = lines[0].strip().rstrip(".") if lines else "no reason given"
    says_little = isinstance(error, LookupError | AssertionError | AttributeError)
    return f"{type(error).__name__}: {told}" if says_little else told


def _is_refusal(error: BaseException | None) -> bool:
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    refusals = TypeError, ValueError, LookupError, AttributeError, AssertionError, ImportError, NotImplementedError
    return isinstance(error, (*refusals, MisconfigurationException)) and not isinstance(error, RunError)


def _check_keys(cfg: DictConfig, values: Mapping) -> None:
    for key in _KEYS:
        if key not in values:
            raise UserError(f"{key} is missing, which every run needs; python train.py --cfg job shows the default.")
        if not fits(values[key], _KEYS[key]):
            raise UserError(f"{key}={values[key]!r} must be {describe(_KEYS[key])}.")
        if _KEYS[key] is dict and key not in ("callbacks", "logger") and "_target_" not in values[key]:
            raise UserError(f"{key}._target_ is missing, the class or function that makes this part of a run.")
    for key in values.keys() - _KEYS.keys():
        if f"${{{key}" not in OmegaConf.to_yaml(cfg):  # else others refer to it
            near = _nearest(key, [known for known in _all_keys(values) if known != key])
            raise UserError(f"{key} is no key of the configuration{f'; did you mean {near}?' if near else '.'}")
    if type(values["weights"]) is not str:
        raise UserError(f"weights={values['weights']!r} must be imagenet, demo, none or the path of a file.")
    for key in ("callbacks", "logger"):
        for name, part in values[key].items():
            if part is not None and not (isinstance(part, dict) and "_target_" in part):
                raise UserError(
                    f"{key}.{name}={part!r} has no _target_: an option of conf/{key} is chosen by {key}=NAME."
                )
    if not 0 <= values["seed"] < _SEEDS:
        raise UserError(f"seed={values['seed']} must be a whole number from 0 to {_SEEDS - 1}.")
    if values["channels_last"] not in (True, False, "auto"):
        raise UserError(f"channels_last={values['channels_last']!r} must be auto, true or false.")


def _check(path: str, component: Mapping, values: Mapping) -> None:
    target, role = component["_target_"], _role(path)
    given = reserved_options.GIVEN.get(role, {})
    arguments = {name: value for name, value in component.items() if not str(name).startswith("_")}
    for name in arguments.keys() & given.keys():
        instead = given[name].format(value=arguments[name])
        raise UserError(f"{path}.{name}={arguments[name]!r} has no effect: {instead}.")
    code = _located(path, target)
    _check_partial(path, role, code, component)
    taken = parameters(code)
    if taken is None:
        return
    unknown = [name for name in arguments if name not in taken]
    if unknown:
        _refuse_unknown(path, target, unknown, [name for name in taken if name not in given], values)
    for name, value in arguments.items():
        _check_value(f"{path}.{name}", value, taken[name], target)
    needed = list(taken)[1:] if role in _BUILT_LATER else [] if component.get("_partial_") else list(taken)
    if "_args_" not in component:
        _refuse_missing(path, target, [name for name in needed if name not in arguments and name not in given], taken)


def _check_partial(path: str, role: str, code: Any, component: Mapping) -> None:
    """Whether a part is built now, or for every phase anew, or called as a function."""
    partial = bool(component.get("_partial_"))
    if role == "loss":
        wanted = not inspect.isclass(code)
    elif role in _BUILT_LATER:
        wanted = not (inspect.isclass(code) and getattr(code, "counts_steps", False))
    else:
        return
    if partial != wanted:
        kind = "class" if inspect.isclass(code) else "function"
        raise UserError(
            f"{path}._target_={component['_target_']} is a {kind} that needs {path}._partial_={str(wanted).lower()}."
        )


def _role(path: str) -> str:
    phase = _PHASE.fullmatch(path)
    return phase[1] if phase else path


def _located(path: str, target: str) -> Any:
    try:
        return get_object(target)
    except Exception as error:
        parent, _, name = target.rpartition(".")
        try:
            near = _nearest(name, dir(importlib.import_module(parent)))
        except Exception:  # nor is there such a module, or it needs a package that is not installed
            near = None
        hint = f"; did you mean {parent}.{near}?" if near else "."
        raise UserError(f"{path}._target_={target}: there is no such class or function{hint}") from error


def _refuse_unknown(path: str, target: str, unknown: list[str], taken: list[str], values: Mapping) -> None:
    name = unknown[0]
    elsewhere = [key for key in _all_keys(values) if key.count(".") < 2 and not key.startswith(f"{path}.")]
    near = next((key for key in elsewhere if key.rpartition(".")[2] == name != "name"), None)
    near = near or (f"{path}.{found}" if (found := _nearest(name, taken)) else None)
    keys = [f"{path}.{name}" for name in unknown]
    removed = " ".join(f"~{key}" for key in keys)
    hint = f"did you mean {near}?" if near else f"its arguments are {', '.join(taken) or 'none'}."
    raise UserError(f"{', '.join(keys)}: {target} takes no such argument ({removed} removes it); {hint}")


def _check_value(key: str, value: object, parameter: inspect.Parameter, target: str) -> None:
    hint = parameter.annotation
    if hint is inspect.Parameter.empty or value is parameter.default or fits(value, hint):
        return
    raise UserError(f"{key}={value!r} must be {describe(hint)}, as {target} takes it.")


def _refuse_missing(path: str, target: str, left: list[str], taken: Mapping[str, inspect.Parameter]) -> None:
    for name in left:
        if taken[name].default is inspect.Parameter.empty:
            raise UserError(f"{path}.{name} is not set, and {target} needs it: add +{path}.{name}=….")


def _all_keys(values: Mapping, prefix: str = "") -> list[str]:
    """The paths of all plain values."""
    keys = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            keys += _all_keys(value, f"{prefix}{name}.")
        elif not str(name).startswith("_"):
            keys.append(f"{prefix}{name}")
    return keys


def _nearest(name: str, choices: Sequence[str]) -> str | None:
    """The choice whose own name is most like `name`."""
    own = {choice.rpartition(".")[2]: choice for choice in reversed(choices)}
    found = difflib.get_close_matches(name, own, n=1)
    return own[found[0]] if found else None
