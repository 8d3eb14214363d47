"""Check which code a configuration may call, because a configuration can come from somebody else."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

from hydra.utils import get_object

from thaw.errors import UserError

_ALLOWED = (
    "thaw",
    "torch.nn",
    "torch.optim",
    "torchvision.ops",
    "torchvision.transforms",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers",
    "lightning.pytorch.profilers",
    "timm.data",
    "timm.loss",
    "timm.optim",
    "timm.scheduler",
)


def refuse_foreign_targets(values: Mapping) -> None:
    """Raise UserError if a `_target_` is outside the allowed training libraries and the modules in `$THAW_TARGETS`.

    Without this check, Hydra would call any `_target_` except a few that are known to be dangerous.
    """
    allowed = (*_ALLOWED, *filter(None, os.environ.get("THAW_TARGETS", "").split(",")))
    for key, target in _targets(values):
        # `thaw.x.os.system` only seems to belong to `thaw`, so the module that defines the code is checked as well.
        if not _within(target, allowed) or not _within(_defining_module(target), allowed):
            raise UserError(
                f"{key}={target} is refused: configurations may name code in {', '.join(allowed)}. To allow "
                "your own modules, set the environment variable THAW_TARGETS=module,module."
            )


def _targets(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        path = f"{key}.{name}".lstrip(".")
        if name == "_target_":
            yield path, str(inner)
        yield from _targets(inner, path)


def _within(name: str, modules: tuple[str, ...]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def _defining_module(target: str) -> str:
    try:
        return getattr(get_object(target), "__module__", None) or target
    except Exception:  # Hydra reports a missing target when it builds the object
        return target
