"""Build commands and options that a user can paste into a shell."""

import re
import shlex
from pathlib import Path

_PLAIN = re.compile(r"[A-Za-z0-9_./@%+-]+")  # text that Hydra reads without quotes, unless it matches _NO_TEXT
_NO_TEXT = re.compile(r"[0-9.+_-]*(e[0-9+_-]+)?|[+-]?(inf|nan)|null|true|false", re.IGNORECASE)


def quoted(value: object) -> str:
    """Return `value` in quotes for a Hydra override, so that Hydra reads every character literally, even `${`.

    Hydra reads a backslash literally, except before a quote, before `${` and at the end.
    """
    escaped = re.sub(r"(\\*)('|\$\{|$)", _escaped, str(value))
    return f"'{escaped}'"


def _escaped(found: re.Match) -> str:
    return 2 * found[1] + (f"\\{found[2]}" if found[2] else "")


def is_plain(value: str) -> bool:
    """Return whether Hydra reads `value` as the same text without quotes."""
    return bool(_PLAIN.fullmatch(value)) and not _NO_TEXT.fullmatch(value)


def unquoted(value: str) -> str:
    """Return the value of an override; remove quotes and escapes, if the value has any."""
    if len(value) < 2 or value[0] not in "'\"" or value[-1] != value[0]:
        return value
    special = rf"(\\+)({value[0]}|\$\{{|$)"
    return re.sub(special, lambda found: found[1][: len(found[1]) // 2] + found[2], value[1:-1])


def option(key: str, value: Path | str) -> str:
    """Return the override `key=value`, with the quotes that Hydra and a shell need."""
    text = str(value)
    if not is_plain(text):
        text = quoted(text) if set(text) & set('"\\$') else f'"{text}"'  # shell quotes leave double quotes as they are
    return shlex.quote(f"{key}={text}")


def resume_command(run: Path | str, *more: str) -> str:
    """Return the command that resumes the run in the folder `run`; `more` are further overrides."""
    return " ".join(["python train.py", option("resume", run), *map(shlex.quote, more)])


def tensorboard_command(folder: Path | str) -> str:
    return f"tensorboard --logdir {shlex.quote(str(folder))}"
