"""Commands and options as a user can paste them into a shell."""

import re
import shlex
from pathlib import Path

_PLAIN = re.compile(r"[A-Za-z0-9_./@%+-]+")  # what Hydra's grammar takes without quotes, as long as it is no number
_NO_TEXT = re.compile(r"[0-9.+_-]*(e[0-9+_-]+)?|[+-]?(inf|nan)|null|true|false", re.IGNORECASE)


def quoted(value: object) -> str:
    """Return `value` quoted for Hydra's overrides, whatever characters it has; `${` refers to nothing.

    A backslash is special before a quote, before `${` and at the end only.
    """
    escaped = re.sub(r"(\\*)('|\$\{|$)", _escaped, str(value))
    return f"'{escaped}'"


def _escaped(found: re.Match) -> str:
    return 2 * found[1] + (f"\\{found[2]}" if found[2] else "")


def is_plain(value: str) -> bool:
    """Return whether Hydra's grammar reads `value` as that text without quotes."""
    return bool(_PLAIN.fullmatch(value)) and not _NO_TEXT.fullmatch(value)


def unquoted(value: str) -> str:
    """Return the text of an override's value, which may have quotes around it."""
    if len(value) < 2 or value[0] not in "'\"" or value[-1] != value[0]:
        return value
    special = rf"(\\+)({value[0]}|\$\{{|$)"
    return re.sub(special, lambda found: found[1][: len(found[1]) // 2] + found[2], value[1:-1])


def option(key: str, value: Path | str) -> str:
    """Return the override `key=value`, quoted for Hydra and for a shell where it needs to be."""
    told = str(value)
    if not is_plain(told):
        told = quoted(told) if set(told) & set('"\\$') else f'"{told}"'  # which a shell's quotes leave as it is
    return shlex.quote(f"{key}={told}")


def resume_command(run: Path | str, *more: str) -> str:
    """Return the command that goes on with a run, with `more` overrides."""
    return " ".join(["python train.py", option("resume", run), *map(shlex.quote, more)])


def tensorboard_command(folder: Path | str) -> str:
    return f"tensorboard --logdir {shlex.quote(str(folder))}"
