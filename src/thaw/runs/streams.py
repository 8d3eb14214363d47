"""Standard output and error that may go away: a reader like `head` that has enough, a terminal that is closed."""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from thaw.pages.text import decoded

_GONE = (errno.EPIPE, errno.EIO)  # a pipe that nobody reads, a terminal that was closed


class _Outliving:
    """A stream whose output goes nowhere once its reader is gone; with `ends` the command then ends quietly.

    What is only `shown` to people has a replacement character for each byte that is no text.
    """

    def __init__(self, stream, ends: bool, shown: bool):
        self._stream, self._ends, self._shown = stream, ends, shown

    def __getattr__(self, name: str):
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        told = decoded(text) if self._shown else text
        return self._try(lambda: self._stream.write(told)) or len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, action):
        try:
            return action()
        except OSError as error:
            if error.errno not in _GONE:
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            if self._ends:
                raise SystemExit(0) from None

    def last_flush(self) -> None:
        self._ends = False
        self.flush()


@contextmanager
def tolerate_closed_output(ends: bool = False) -> Iterator[None]:
    """Within it, and when Python ends, nobody is told that the reader of this process's output is gone.

    The command goes on, for its results are in files; with `ends` it exits with 0, for the output was all it is for.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed before the program began
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names may have characters that a terminal lacks
    before = sys.stdout, sys.stderr
    streams = [_Outliving(stream, ends, shown) for stream, shown in zip(before, (False, True), strict=True)]
    sys.stdout, sys.stderr = streams
    try:
        yield
    finally:
        for stream in streams:
            stream.last_flush()
        sys.stdout, sys.stderr = before
