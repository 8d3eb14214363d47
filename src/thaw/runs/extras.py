"""Figures, pages and loggers: nothing that a result depends on."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


@contextmanager
def warn_on_failure(what: str) -> Iterator[None]:
    """Log one warning where `what` fails, and go on: results are written before it and do not need it."""
    try:
        yield
    except Exception as error:  # of any library that draws, writes or sends
        reason = " ".join(str(error).split()) or type(error).__name__
        log.warning(f"warning: {what} failed ({reason[:200]}); the results are complete without it")
