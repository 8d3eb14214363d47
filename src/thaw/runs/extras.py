"""Parts of a run that no result depends on: figures, pages and loggers."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


@contextmanager
def warn_on_failure(what: str) -> Iterator[None]:
    """Log one warning if `what` fails, and continue: the results are already written and do not need it."""
    try:
        yield
    except Exception as error:  # libraries that draw, write or send raise errors of any kind
        reason = " ".join(str(error).split()) or type(error).__name__
        log.warning(f"warning: {what} failed ({reason[:200]}); the results are complete without it")
