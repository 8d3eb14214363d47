"""Parts of a run that no result depends on: figures, pages and loggers."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from thaw.storage.files import write_whole

log = logging.getLogger(__name__)


@contextmanager
def warn_on_failure(what: str) -> Iterator[None]:
    """Log one warning if `what` fails, and continue: the results are already written and do not need it."""
    try:
        yield
    except Exception as error:  # libraries that draw, write or send raise errors of any kind
        reason = " ".join(str(error).split()) or type(error).__name__
        log.warning(f"warning: {what} failed ({reason[:200]}); the results are complete without it")


def write_page(path: Path, render: Callable[[], str]) -> None:
    """Write what `render` returns; if that fails, log one warning and delete an older page of other results."""
    with warn_on_failure(f"the page {path}"):
        write_whole(path, render())
        return
    with suppress(OSError):
        path.unlink(missing_ok=True)


def naming_page(kind: str, path: Path) -> str:
    """Return the last line that a command prints, which names its page, or nothing if the page was not written."""
    return f"\n\n{kind:8} {path}" if path.is_file() else ""
