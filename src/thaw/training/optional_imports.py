"""Packages that libraries import although a run does not need them."""

from functools import cache
from typing import Any


@cache
def skip_text_models() -> None:
    """Make torchmetrics skip transformers, which it imports for metrics of texts; this takes seconds.

    Call it before importing Lightning. In this process, metrics that need transformers say that it is missing.
    """
    from lightning_utilities.core.imports import RequirementCache

    asked = RequirementCache.__bool__

    def is_available(self: Any) -> bool:
        return not str(self.requirement).startswith("transformers") and asked(self)

    RequirementCache.__bool__ = is_available
