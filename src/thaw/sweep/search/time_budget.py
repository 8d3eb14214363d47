"""The time that a search may take, over all its processes and interruptions."""

import os
import re
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from thaw.errors import UserError

_UNITS = {"s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600, "hour": 3600, "hours": 3600, "d": 86400}
_SESSIONS = "sessions"


def seconds_of(text: object) -> float:
    """Return the seconds of a duration such as `90s`, `30min`, `2h`, `1.5h` or `1h30min`.

    Raises:
        UserError: if `text` is no duration above 0.

    """
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([a-z]+)", str(text).lower())
    rest = re.sub(r"(\d+(?:\.\d+)?)\s*([a-z]+)", "", str(text).lower()).strip()
    if not parts or rest or any(unit not in _UNITS for _, unit in parts):
        raise UserError(f"budget={text} is no duration: write 90s, 30min, 2h or 1h30min.")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if seconds <= 0:
        raise UserError(f"budget={text} leaves no time: it must be above 0.")
    return seconds


class TimeBudget:
    """Time of the processes that search in `folder`. Time in which none of them ran does not count.

    `start` is when this process began, or None for now. Each process has a file whose content is its start; the file's
    modification time is when the process was last alive.
    """

    def __init__(
        self, folder: Path, seconds: float, clock: Callable[[], float] = time.time, start: float | None = None
    ):
        self.seconds, self._clock, self._folder = seconds, clock, folder / _SESSIONS
        self._folder.mkdir(parents=True, exist_ok=True)
        self._start = clock() if start is None else start
        self._own = self._folder / f"{socket.gethostname()}-{os.getpid()}-{self._start:.3f}"
        self._own.write_text(repr(self._start))
        self.tick()

    def tick(self) -> None:
        """Record that this process is alive."""
        now = self._clock()
        os.utime(self._own, (now, now))

    def used(self) -> float:
        """Return the seconds in which at least one process searched."""
        self.tick()
        intervals = []
        for path in self._folder.iterdir():
            text = path.read_text()
            if text:  # another process is just writing it
                intervals.append((float(text), path.stat().st_mtime))
        total, reached = 0.0, -float("inf")
        for start, end in sorted(intervals):
            total += max(0.0, end - max(start, reached))
            reached = max(reached, end)
        return total

    def left(self) -> float:
        return self.seconds - self.used()


def process_start() -> float:
    """Return the time when this process began; imports take seconds, which count."""
    with suppress(OSError, ValueError, IndexError):  # Linux only
        ticks = float(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        return time.time() - (uptime - ticks / os.sysconf("SC_CLK_TCK"))
    return time.time()
