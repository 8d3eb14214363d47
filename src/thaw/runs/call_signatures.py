"""Find out which arguments the classes and functions named in a configuration accept."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, get_type_hints

# Classes and functions that pass their **kwargs on to another class or function.
_PASSED_ON = {
    "thaw.data.datamodule.image_folders": "thaw.data.data_options.DataOptions",
    "thaw.training.trainer.build_trainer": "lightning.Trainer",
    "lightning.pytorch.loggers.tensorboard.TensorBoardLogger": "torch.utils.tensorboard.SummaryWriter",
    "lightning.pytorch.loggers.wandb.WandbLogger": "wandb.init",
}
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def parameters(component: Callable) -> dict[str, inspect.Parameter] | None:
    """Return the parameters of a class or function by name, or None if its signature does not name them all.

    Parameters that `**kwargs` passes on to a base class or to another function are returned as optional. A parameter
    has no annotation if its annotation cannot be evaluated.
    """
    found: dict[str, inspect.Parameter] = {}
    for place, (function, bound) in enumerate(_functions(component)):
        try:
            own = list(inspect.signature(function).parameters.values())[0 if bound else 1 :]
        except (TypeError, ValueError):  # some functions written in C have no signature
            return None
        hints = _hints(function)
        for one in own:
            if one.kind in _NAMED:
                one = one.replace(annotation=hints.get(one.name, inspect.Parameter.empty))
                found.setdefault(one.name, one if place == 0 else one.replace(default=None))
        if not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in own):
            return found
    return None


def _functions(component: Callable) -> Iterator[tuple[Callable, bool]]:
    """Yield each function that receives the arguments of `component`, and whether its `self` is already bound."""
    if inspect.isclass(component):
        for base in component.__mro__[:-1]:
            if "__init__" in vars(base):
                yield vars(base)["__init__"], False
    else:
        yield component, True
    further = _PASSED_ON.get(f"{component.__module__}.{getattr(component, '__qualname__', '')}")
    if further:
        from hydra.utils import get_object

        from thaw.runs.optional_imports import skip_unneeded

        skip_unneeded()
        yield from _functions(get_object(further))


def _hints(function: Callable) -> dict[str, Any]:
    try:
        return get_type_hints(function)
    except Exception:  # an annotation can contain a name that only type checkers import
        return {}
