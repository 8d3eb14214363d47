"""Keep a command working if the reader of its output, such as `head` or a terminal, goes away."""

import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TextIO, cast

from thaw.pages.text import decoded, printable

_GONE = (errno.EPIPE, errno.EIO)  # EPIPE: a pipe has no reader; EIO: the terminal was closed


def refuse(sentence: str) -> NoReturn:
    """Print an error and exit with status 2."""
    print_error(sentence)
    raise SystemExit(2)


def print_error(sentence: str) -> None:
    print(f"error: {printable(sentence)}", file=sys.stderr)


class _SafeStream:
    """Write to `stream`, and discard all output once its reader is gone or its disk is full.

    With `ends`, exit with status 0 when the reader is gone, and raise OSError when the disk is full. With `shown`,
    replace bytes that are not UTF-8, because only people read the stream.
    """

    def __init__(self, stream: Any, ends: bool, shown: bool):
        self._stream, self._ends, self._shown, self._closing = stream, ends, shown, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        printed = decoded(text) if self._shown else text
        return self._try(lambda: self._stream.write(printed)) or len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except OSError as error:
            full = error.errno == errno.ENOSPC
            if error.errno not in _GONE and not (full and (self._closing or not self._ends)):
                raise
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
            if full and not self._ends and sys.__stderr__ and self._stream is not sys.__stderr__:
                print(f"warning: the output cannot be written ({error.strerror}): it is discarded", file=sys.__stderr__)
            if self._ends and not self._closing:
                raise SystemExit(0) from None

    def last_flush(self) -> None:
        self._closing = True
        self.flush()


@contextmanager
def tolerate_closed_output(ends: bool = False) -> Iterator[None]:
    """Inside the block and when Python exits, ignore that the reader of this process's output is gone.

    The command continues, because it writes its results to files. With `ends`, the command exits with status 0 instead,
    because its output is the result.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the stream was closed before the program started
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names can contain characters that a terminal lacks
    before = sys.stdout, sys.stderr
    streams = [_SafeStream(stream, ends, shown) for stream, shown in zip(before, (False, True), strict=True)]
    sys.stdout, sys.stderr = (cast(TextIO, stream) for stream in streams)
    try:
        yield
    finally:
        for stream in streams:
            stream.last_flush()
        sys.stdout, sys.stderr = before
