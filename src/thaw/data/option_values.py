"""Functions that check the value of an option: each returns the value, or raises UserError."""

from collections.abc import Sequence
from typing import TypeVar

from thaw.errors import UserError

Choice = TypeVar("Choice", str, str | None)


def whole_number(name: str, value: object, least: int = 1, most: int = 2**31 - 1) -> int:
    if type(value) is not int or value < least:
        raise UserError(f"{name}={value!r} must be a whole number of at least {least}.")
    if value > most:
        raise UserError(f"{name}={value} must be at most {most}.")
    return value


def number(name: str, value: float) -> float:
    if type(value) not in (int, float) or not 0 <= value < float("inf"):
        raise UserError(f"{name}={value!r} must be a number of at least 0.")
    return value


def number_or_auto(name: str, value: float | str) -> float | str:
    if value != "auto" and (type(value) not in (int, float) or not 0 <= float(value) < float("inf")):
        raise UserError(f"{name}={value!r} must be auto or a number of at least 0.")
    return value


def bounds(name: str, value: Sequence[float]) -> tuple[float, float]:
    """Return `value` as (lower, upper): bounds of a share, both above 0 and at most 1."""
    pair = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    if len(pair) != 2 or any(type(bound) not in (int, float) for bound in pair) or not 0 < pair[0] <= pair[1] <= 1:
        raise UserError(f"{name}={value!r} must be two numbers above 0 and at most 1, the lower one first.")
    return pair[0], pair[1]


def share(name: str, value: float) -> float:
    if type(value) not in (int, float) or not 0 < value <= 1:
        raise UserError(f"{name}={value!r} must be above 0 and at most 1.")
    return value


def boolean(name: str, value: bool) -> bool:
    if type(value) is not bool:
        raise UserError(f"{name}={value!r} is neither true nor false.")
    return value


def one_of(name: str, value: Choice, choices: Sequence[Choice]) -> Choice:
    if value not in choices:
        listing = ", ".join("null" if choice is None else choice for choice in choices)
        raise UserError(f"{name}={value!r} is unknown; the choices are {listing}.")
    return value
