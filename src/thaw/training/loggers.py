"""Keep a run going if a logger fails, for example on a full disk or without a connection to its server."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import WeakSet

from lightning import Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.loggers.logger import DummyLogger

log = logging.getLogger(__name__)

_METHODS = ("log_metrics", "log_hyperparams", "log_graph", "save", "after_save_checkpoint")

_failed: "WeakSet[Any]" = WeakSet()


def attempt(logger: Any, action: Callable[[], Any]) -> Any:
    """Return the result of `action`, which uses `logger`. If the action fails, warn and never use the logger again.

    `logger` can also be a `functools.partial` that builds a logger.
    """
    if logger in _failed:
        return None
    try:
        return action()
    except Exception as error:  # loggers' libraries raise all kinds of exceptions
        _failed.add(logger)
        name = logger.func.__name__ if isinstance(logger, partial) else type(logger).__name__
        reason = " ".join(str(error).split()) or type(error).__name__
        log.warning(f"warning: {name} failed and is not used any more ({reason[:200]})")
        return None


def has_failed(logger: Any) -> bool:
    return logger in _failed


def shield(trainer: Trainer) -> None:
    """Make the loggers of `trainer` warn instead of raise; a `DummyLogger` replaces loggers that cannot start.

    Lightning ends its loggers after each `fit`. A run has several, so the run itself ends them
    (`thaw.report.recording`). Ranks above 0 build no logger from a `functools.partial`.
    """
    for logger in trainer.loggers:
        attempt(logger, lambda logger=logger: getattr(logger, "experiment", None))
    trainer.loggers = [_shielded(logger) for logger in trainer.loggers]


def _shielded(logger: Any) -> Logger:
    if has_failed(logger) or not isinstance(logger, Logger):
        return DummyLogger()
    for name in _METHODS:
        method = getattr(logger, name)
        if not isinstance(method, partial):
            setattr(logger, name, partial(_call, logger, method))
    logger.finalize = _end_later
    return logger


def _call(logger: Logger, method: Callable, *args, **kwargs) -> object:
    return attempt(logger, lambda: method(*args, **kwargs))


def _end_later(status: str) -> None:
    """Do nothing when Lightning ends a `fit`."""
