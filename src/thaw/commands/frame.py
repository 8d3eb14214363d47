"""Shared code of all commands: exit statuses, errors in one sentence, and types of arguments."""

import argparse
import sys
from collections.abc import Callable

from thaw.errors import UserError, error_with_sentence
from thaw.runs.streams import print_error, tolerate_closed_output


def run(main: Callable[[], int | None], quiet: bool = False) -> int:
    """Run a command and return its exit status.

    The status is what `main` returns (None means 0), 1 after a RunError, 2 after a UserError and 130 after Ctrl-C. With
    `quiet`, the status is 0 when the program that reads the output, such as head, goes away.
    """
    with tolerate_closed_output(ends=quiet):
        try:
            return main() or 0
        except (UserError, RuntimeError) as error:
            known = error_with_sentence(error)
            if known is None:
                raise
            print_error(str(known))
            return 2 if isinstance(known, UserError) else 1
        except KeyboardInterrupt:
            return 130


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser that keeps the line breaks of `description`."""
    return argparse.ArgumentParser(
        prog=sys.argv[0] if sys.argv[0].startswith("thaw ") else None,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def whole(least: int = 1) -> Callable[[str], int]:
    """Return an argument type for argparse that accepts whole numbers of at least `least`."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdecimal()) or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} must be a whole number of at least {least}")
        return int(text)

    return read


def coverage(text: str) -> float:
    """Read the coverage of prediction sets, for argparse: a number above 0 and below 1."""
    value = _number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number above 0 and below 1, such as 0.9")
    return value


def share(below_one: bool = False) -> Callable[[str], float]:
    """Return an argument type for argparse that accepts numbers from 0 to 1, or below 1 if `below_one`."""

    def read(text: str) -> float:
        value = _number(text)
        if not 0 <= value <= 1 or (below_one and value == 1):
            raise argparse.ArgumentTypeError(f"{text!r} must be a number from 0 to {'below ' * below_one}1")
        return value

    return read


def _number(text: str) -> float:
    """Return the number that `text` states, or NaN."""
    try:
        return float(text)
    except ValueError:
        return float("nan")
