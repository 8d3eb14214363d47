"""Write output that no result depends on, such as figures and pages: an error there only logs a warning."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from thaw.storage.files import write_whole

log = logging.getLogger(__name__)


@contextmanager
def warn_on_failure(what: str) -> Iterator[None]:
    """Turn any error in the block into one logged warning that names `what`; the results are already written."""
    try:
        yield
    except Exception as error:  # plotting libraries and loggers raise errors of any kind
        reason = " ".join(str(error).split()) or type(error).__name__
        log.warning(f"warning: {what} failed ({reason[:200]}); the results are complete without it")


def write_page(path: Path, render: Callable[[], str]) -> None:
    """Write the HTML that `render` returns to `path`.

    If this fails, log one warning and delete the old page at `path`, because it shows other results.
    """
    with warn_on_failure(f"the page {path}"):
        write_whole(path, render())
        return
    with suppress(OSError):
        path.unlink(missing_ok=True)


def naming_page(kind: str, path: Path) -> str:
    """Return the last line of a command's output, with the path of its page, or an empty string if there is no page."""
    return f"\n\n{kind:8} {path}" if path.is_file() else ""
