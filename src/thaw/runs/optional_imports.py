"""Packages that libraries import although a run does not need them."""

import sys
from functools import cache
from types import ModuleType
from typing import Any


@cache
def skip_unneeded() -> None:
    """Import torchmetrics without two packages that take seconds: transformers, for texts, and scipy.signal, for audio.

    Call it before importing Lightning. In this process, text metrics then report that transformers is missing.
    """
    from lightning_utilities.core.imports import RequirementCache

    asked = RequirementCache.__bool__

    def is_available(self: Any) -> bool:
        return not str(self.requirement).startswith("transformers") and asked(self)

    RequirementCache.__bool__ = is_available
    _import_without("scipy.signal", hamming=None)  # a name that torchmetrics adds for one of its audio metrics


def _import_without(name: str, **contents: Any) -> None:
    """Import torchmetrics with an empty module in place of `name`, which can be imported afterwards."""
    if name in sys.modules:
        return
    stand_in = ModuleType(name)
    vars(stand_in).update(contents)
    sys.modules[name] = stand_in
    try:
        import torchmetrics  # noqa: F401
    finally:
        del sys.modules[name]
