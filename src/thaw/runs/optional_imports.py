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
    if "scipy.signal" not in sys.modules:
        stand_in = ModuleType("scipy.signal")
        vars(stand_in)["hamming"] = None  # a name that torchmetrics adds for one of its audio metrics
        sys.modules["scipy.signal"] = stand_in
        try:
            import torchmetrics  # noqa: F401
        finally:
            del sys.modules["scipy.signal"]  # so that it can be imported afterwards
