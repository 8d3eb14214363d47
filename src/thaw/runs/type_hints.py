"""Check values of a configuration against the type hints of the parameters that receive them."""

import collections.abc
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

_NAMES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    NoneType: "null",
}
_FITTING: dict[Any, tuple] = {float: (int, float), str: (str, int, float)}  # YAML reads names such as 2024 as numbers
_SEQUENCES = (list, tuple, set, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


def fits(value: object, hint: Any) -> bool:
    """Return whether a parameter annotated with `hint` accepts `value`; also True if the hint cannot be checked.

    A mapping with a `_target_` fits every hint, because the parameter gets the object that Hydra builds from it.
    """
    plain = _plain_options(hint)
    undecided = plain in ([], [NoneType]) or (isinstance(value, dict) and "_target_" in value)
    return undecided or any(_fits(value, get_origin(option) or option, get_args(option)) for option in plain)


def _fits(value: object, kind: Any, inner: tuple) -> bool:
    if kind is Literal:
        return value in inner
    if kind in _NAMES:
        return type(value) in _FITTING.get(kind, (kind,))
    if kind in _MAPPINGS:
        return isinstance(value, dict)
    return isinstance(value, list) and _fit_each(value, kind, inner)


def _fit_each(values: list, kind: Any, hints: tuple) -> bool:
    if kind is tuple and hints and Ellipsis not in hints:
        return len(values) == len(hints) and all(map(fits, values, hints))
    return not hints or all(fits(value, hints[0]) for value in values)


def describe(hint: Any) -> str:
    """Return in words which values fit `hint`, such as "a whole number or null"."""
    words = [_describe_option(option) for option in _plain_options(hint)]
    return " or ".join(dict.fromkeys(words)) or "anything"


def _describe_option(hint: Any) -> str:
    kind, inner = get_origin(hint) or hint, get_args(hint)
    if kind is Literal:
        return "one of " + ", ".join(map(str, inner))
    if kind is tuple and inner and Ellipsis not in inner:
        return f"a list of {len(inner)} ({', '.join(map(describe, inner))})"
    if kind in _SEQUENCES:
        return "a list"
    return "a mapping" if kind in _MAPPINGS else _NAMES[kind]


def _plain_options(hint: Any) -> list:
    """Return the types in `hint` that values of a configuration file can have."""
    plain = (Literal, *_NAMES, *_SEQUENCES, *_MAPPINGS)
    return [option for option in _options(hint) if (get_origin(option) or option) in plain]


def _options(hint: Any) -> list:
    if get_origin(hint) is Annotated:
        return _options(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return [option for member in get_args(hint) for option in _options(member)]
    return [NoneType if hint is None else hint]
