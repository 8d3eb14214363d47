"""Values that a data set can be given, refused in one sentence where they make no sense."""

from collections.abc import Sequence

from thaw.errors import UserError


def whole_number(name: str, value: int, least: int = 1) -> int:
    if type(value) is not int or value < least:
        raise UserError(f"{name}={value!r} must be a whole number of at least {least}.")
    return value


def number(name: str, value: float) -> float:
    if type(value) not in (int, float) or not 0 <= value < float("inf"):
        raise UserError(f"{name}={value!r} must be a number of at least 0.")
    return value


def shares(name: str, value: Sequence[float]) -> tuple[float, float]:
    """The bounds of a share, the lower one first."""
    pair = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    if len(pair) != 2 or any(type(bound) not in (int, float) for bound in pair) or not 0 < pair[0] <= pair[1] <= 1:
        raise UserError(f"{name}={value!r} must be two numbers above 0 and at most 1, the lower one first.")
    return tuple(pair)


def one_of(name: str, value: str | None, choices: Sequence[str | None]) -> str | None:
    if value not in choices:
        told = ", ".join("null" if choice is None else choice for choice in choices)
        raise UserError(f"{name}={value!r} is unknown; the choices are {told}.")
    return value
