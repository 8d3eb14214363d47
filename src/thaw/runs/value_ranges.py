"""Check the ranges of options that other libraries read; these libraries reject a wrong value late or never."""

from collections.abc import Callable, Mapping
from typing import Any

from thaw.runs.configuration import flat


def _above_zero(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _counts(value: Any) -> bool:
    return type(value) is int and value > 0


_COUNT, _POSITIVE = (_counts, "a whole number of at least 1"), (_above_zero, "a number above 0")
_RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "trainer.accumulate_grad_batches": _COUNT,
    "trainer.gradient_clip_val": _POSITIVE,
    "trainer.devices": (lambda value: value not in (0, "0", []), "at least one device, or auto"),
    "lr_factor": _POSITIVE,
    "loss.label_smoothing": (lambda value: _is_number(value) and 0 <= value < 1, "a number of at least 0 and below 1"),
    "scheduler.step_size": _COUNT,
    "scheduler.gamma": _POSITIVE,
    "mix.alpha": _POSITIVE,
    "mix.mixup_alpha": _POSITIVE,
    "mix.cutmix_alpha": _POSITIVE,
    "callbacks.early_stopping.patience": (lambda value: type(value) is int and value >= 0, "a whole number from 0"),
    "callbacks.early_stopping.mode": (lambda value: value in ("min", "max"), "min or max"),
}


def range_fault(values: Mapping) -> str | None:
    """Return an error sentence, without its full stop, for the first value out of range, or None.

    `values` are the plain values of a configuration. An option may be missing or null.
    """
    given = flat(values)
    for key, (allowed, wanted) in _RANGES.items():
        value = given.get(key)
        if value is not None and not allowed(value):
            return f"{key}={value!r} must be {wanted}"
    return None
