"""Which code a configuration may name: it can come from somebody else, as data do."""

import os
from collections.abc import Iterator, Mapping

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
    """Hydra by itself calls whatever a `_target_` names, but for a list of what is known to be dangerous.

    Raises:
        UserError: for one that is neither of a library for training nor of a module named in `$THAW_TARGETS`.

    """
    allowed = (*_ALLOWED, *filter(None, os.environ.get("THAW_TARGETS", "").split(",")))
    for key, target in _targets(values):
        # What lies within `thaw` by its name can be a module that thaw imports: where it was defined counts as well.
        if not _within(target, allowed) or not _within(_home(target), allowed):
            raise UserError(
                f"{key}={target} is refused: configurations may name what is in {', '.join(allowed)}; modules of your "
                "own are named in the environment, THAW_TARGETS=module,module."
            )


def _targets(value, key: str = "") -> Iterator[tuple[str, str]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        path = f"{key}.{name}".lstrip(".")
        if name == "_target_":
            yield path, str(inner)
        yield from _targets(inner, path)


def _within(name: str, modules: tuple[str, ...]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def _home(target: str) -> str:
    try:
        return getattr(get_object(target), "__module__", None) or target
    except Exception:  # Hydra tells of what is not there when it needs it
        return target
