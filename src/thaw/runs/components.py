"""Check the options of components, the parts of a configuration with a `_target_`, and build their objects."""

import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object
from hydra.utils import instantiate as built_by_hydra
from omegaconf import DictConfig, OmegaConf

from thaw.errors import RunError, UserError, error_with_sentence
from thaw.runs import reserved_options
from thaw.runs.call_signatures import parameters
from thaw.runs.optional_packages import refuse_without_package
from thaw.runs.root_keys import check_root_keys, nearest, value_keys
from thaw.runs.type_hints import describe, fits

_BUILT_LATER = ("optimizer", "scheduler")  # a run builds these for every phase, and passes their first argument
_PHASE = re.compile(r"strategy\.phases\.\d+\.(optimizer|scheduler)")


def check_components(cfg: DictConfig, values: Mapping) -> None:
    """Check a configuration's options against the signatures of its classes and functions.

    `values` are the values of `cfg` as plain dicts and lists, with references resolved.

    Raises:
        UserError: if a key is missing, has a value of the wrong type, is never read, or is overwritten by the run.

    """
    check_root_keys(cfg, values)
    for path, component in components(values):
        _check(path, component, values)
    if sentence := reserved_options.fault(values):
        raise UserError(f"{sentence}.")


def components(value: Any, path: str = "") -> Iterator[tuple[str, Mapping]]:
    """Yield (path, part) for each part of `value` that has a `_target_`; a path is, say, `strategy.phases.0.solver`."""
    if isinstance(value, Mapping) and isinstance(value.get("_target_"), str):
        yield path, value
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        if path != "trainer" or name not in ("callbacks", "logger"):  # these repeat cfg.callbacks and cfg.logger
            yield from components(inner, f"{path}.{name}".lstrip("."))


def instantiate(part: Any, **given: object) -> Any:
    """Build the object that `part` of a configuration describes; `given` are further arguments.

    Raises:
        UserError: if the class or function rejects the arguments.

    """
    try:
        return built_by_hydra(_literal(part), **given)
    except InstantiationException as error:
        cause = error.__cause__
        if known := error_with_sentence(error):
            raise known from None  # the traceback of `known` shows the code that raised it
        if cause is None or not _is_refusal(cause):
            raise
        raise UserError(f"{part._get_full_key(None)}: {first_line(cause)}.") from error


def _literal(part: Any) -> Any:
    """Escape each `${` in the resolved values of `part`, because Hydra would resolve it a second time."""
    values = OmegaConf.to_container(part, resolve=True) if isinstance(part, DictConfig) else part
    return _escaped(values) if "${" in str(values) else part


def _escaped(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _escaped(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_escaped(inner) for inner in value]
    return value.replace("${", r"\\\${") if isinstance(value, str) else value


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message without its full stop.

    LookupError, AssertionError and AttributeError have short messages, so the name of the class precedes these.
    """
    lines = str(error).strip().splitlines()
    line = lines[0].strip().rstrip(".") if lines else "no reason given"
    terse = isinstance(error, LookupError | AssertionError | AttributeError)
    return f"{type(error).__name__}: {line}" if terse else line


def _is_refusal(error: BaseException) -> bool:
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    refusals = TypeError, ValueError, LookupError, AttributeError, AssertionError, ImportError, NotImplementedError
    return isinstance(error, (*refusals, MisconfigurationException)) and not isinstance(error, RunError)


def _check(path: str, component: Mapping, values: Mapping) -> None:
    target, role = component["_target_"], _role(path)
    passed = reserved_options.PASSED_BY_RUN.get(role, {})
    arguments = {name: value for name, value in component.items() if not str(name).startswith("_")}
    for name in arguments.keys() & passed.keys():
        instead = passed[name].format(value=arguments[name])
        raise UserError(f"{path}.{name}={arguments[name]!r} has no effect: {instead}.")
    refuse_without_package(path, target)
    code = _located(path, target)
    _check_partial(path, role, code, component)
    accepted = parameters(code)
    if accepted is None:
        return
    unknown = [name for name in arguments if name not in accepted]
    if unknown:
        _refuse_unknown(path, target, unknown, [name for name in accepted if name not in passed], values)
    for name, value in arguments.items():
        _check_value(f"{path}.{name}", value, accepted[name], target)
    needed = list(accepted)[1:] if role in _BUILT_LATER else [] if component.get("_partial_") else list(accepted)
    if "_args_" not in component:
        for name in needed:
            if name not in (*arguments, *passed) and accepted[name].default is inspect.Parameter.empty:
                raise UserError(f"{path}.{name} is not set, and {target} needs it: add +{path}.{name}=….")


def _check_partial(path: str, role: str, code: Any, component: Mapping) -> None:
    """Raise UserError unless `_partial_` is true for parts that Hydra must not call yet, and false for all others."""
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
            near = nearest(name, dir(importlib.import_module(parent)))
        except Exception:  # the module does not exist, or imports a package that is not installed
            near = None
        hint = f"; did you mean {parent}.{near}?" if near else "."
        raise UserError(f"{path}._target_={target}: there is no such class or function{hint}") from error


def _refuse_unknown(path: str, target: str, unknown: list[str], accepted: list[str], values: Mapping) -> None:
    name = unknown[0]
    elsewhere = [key for key in value_keys(values) if key.count(".") < 2 and not key.startswith(f"{path}.")]
    near = next((key for key in elsewhere if key.rpartition(".")[2] == name != "name"), None)
    near = near or (f"{path}.{found}" if (found := nearest(name, accepted)) else None)
    keys = [f"{path}.{name}" for name in unknown]
    removed = " ".join(f"~{key}" for key in keys)
    hint = f"did you mean {near}?" if near else f"its arguments are {', '.join(accepted) or 'none'}."
    raise UserError(f"{', '.join(keys)}: {target} takes no such argument ({removed} removes it); {hint}")


def _check_value(key: str, value: object, parameter: inspect.Parameter, target: str) -> None:
    hint = parameter.annotation
    if hint is inspect.Parameter.empty or value is parameter.default or fits(value, hint):
        return
    raise UserError(f"{key}={value!r} must be {describe(hint)}: {target} takes nothing else.")
