"""Keep a run going if a logger fails, for example on a full disk or without a connection to its server."""

import logging
from collections.abc import Callable
from functools import partial
from weakref import WeakSet

from lightning import Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.loggers.logger import DummyLogger

log = logging.getLogger(__name__)

_METHODS = ("log_metrics", "log_hyperparams", "log_graph", "save", "after_save_checkpoint", "finalize")

_failed: "WeakSet[Logger]" = WeakSet()


def attempt(logger: Logger, action: Callable[[], object]) -> object:
    """Return the result of `action`, which uses `logger`. If the action fails, warn and never use the logger again."""
    if logger in _failed:
        return None
    try:
        return action()
    except Exception as error:  # loggers' libraries raise all kinds of exceptions
        _failed.add(logger)
        reason = " ".join(str(error).split()) or type(error).__name__
        log.warning(f"warning: {type(logger).__name__} failed and is not used any more ({reason[:200]})")
        return None


def shield(trainer: Trainer) -> None:
    """Make the loggers of `trainer` warn instead of raise; a `DummyLogger` replaces loggers that cannot start."""
    for logger in trainer.loggers:
        attempt(logger, lambda logger=logger: getattr(logger, "experiment", None))
    trainer.loggers = [DummyLogger() if logger in _failed else _shielded(logger) for logger in trainer.loggers]


def _shielded(logger: Logger) -> Logger:
    for name in _METHODS:
        method = getattr(logger, name)
        if not isinstance(method, partial):
            setattr(logger, name, partial(_call, logger, method))
    return logger


def _call(logger: Logger, method: Callable, *args, **kwargs) -> object:
    return attempt(logger, lambda: method(*args, **kwargs))
