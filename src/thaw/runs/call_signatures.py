"""Which arguments a component of a configuration takes: those of a function, or of a class and of its bases."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, get_type_hints

# Functions that hand the arguments which they do not name themselves to another one.
_HANDED_ON = {
    "thaw.training.trainer.build_trainer": "lightning.Trainer",
    "lightning.pytorch.loggers.tensorboard.TensorBoardLogger": "torch.utils.tensorboard.SummaryWriter",
}
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def parameters(component: Callable) -> dict[str, inspect.Parameter] | None:
    """Return the parameters of `component` by name, or None if it takes arguments of any name.

    Parameters without an annotation that can be read have none. Those of bases have a default.
    """
    taken: dict[str, inspect.Parameter] = {}
    for place, (function, bound) in enumerate(_functions(component)):
        try:
            own = list(inspect.signature(function).parameters.values())[0 if bound else 1 :]
        except (TypeError, ValueError):  # of some functions that are written in C
            return None
        hints = _hints(function)
        for one in own:
            if one.kind in _NAMED:
                one = one.replace(annotation=hints.get(one.name, inspect.Parameter.empty))
                taken.setdefault(one.name, one if place == 0 else one.replace(default=None))
        if not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in own):
            return taken
    return None


def _functions(component: Callable) -> Iterator[tuple[Callable, bool]]:
    """Those that see a component's arguments, one after the other, and whether their first one is bound."""
    if inspect.isclass(component):
        for base in component.__mro__[:-1]:
            if "__init__" in vars(base):
                yield vars(base)["__init__"], False
    else:
        yield component, True
    further = _HANDED_ON.get(f"{component.__module__}.{getattr(component, '__qualname__', '')}")
    if further:
        from hydra.utils import get_object

        yield from _functions(get_object(further))


def _hints(function: Callable) -> dict[str, Any]:
    try:
        return get_type_hints(function)
    except Exception:  # a name that is there for type checkers alone
        return {}
