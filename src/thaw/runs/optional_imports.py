"""Skip slow imports of packages that libraries import but a run does not need."""

import sys
from functools import cache
from types import ModuleType
from typing import Any


@cache
def skip_unneeded() -> None:
    """Import torchmetrics without transformers and scipy.signal, which only text and audio metrics use.

    Importing these two packages takes seconds. Call this function before importing Lightning. Afterwards, text metrics
    of this process report that transformers is missing.
    """
    from lightning_utilities.core.imports import RequirementCache

    asked = RequirementCache.__bool__

    def is_available(self: Any) -> bool:
        return not str(self.requirement).startswith("transformers") and asked(self)

    RequirementCache.__bool__ = is_available
    if "scipy.signal" not in sys.modules:
        stand_in = ModuleType("scipy.signal")
        vars(stand_in)["hamming"] = None  # otherwise torchmetrics sets this attribute
        sys.modules["scipy.signal"] = stand_in
        try:
            import torchmetrics  # noqa: F401
        finally:
            del sys.modules["scipy.signal"]  # so that other code can import the real module
