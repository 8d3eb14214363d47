"""Shorter forms that the command line accepts, and their translation for Hydra."""

import os
import re

from thaw.runs.shown_commands import is_plain, quoted

# Groups of conf/, whose options are chosen by name.
GROUPS = (
    "callbacks", "data", "experiment", "logger", "mix", "model", "optimizer", "scheduler", "strategy", "sweep",
    "trainer",
)  # fmt: skip
_FOLDER = "data=image_folder"
_PATHS = ("data.root", "weights", "hydra.run.dir", "hydra.sweep.dir")
_GRAMMAR = re.compile(r"[$(){}\[\]'\"]")  # special in Hydra's grammar; used as such unless a file has that name
_BARE = re.compile(r"[A-Za-z0-9_./@%+:*?|\\ -]*")  # characters that Hydra's grammar reads without quotes


def expand_shorthand(arguments: list[str]) -> list[str]:
    """Return command-line `arguments` in Hydra's syntax.

    `data.root=PHOTOS` alone chooses image folders instead of the demo's drawings. `mix=null`, which is not an option of
    a group, becomes an empty list. A path may contain any characters without further quotes.
    """
    emptied = {f"{group}=null": f"{group}=[]" for group in GROUPS}
    expanded = [emptied.get(argument) or literal(argument) for argument in arguments]
    keys = [argument.partition("=")[0].lstrip("+~") for argument in arguments]
    if "data.root" in keys and "data" not in keys:
        expanded.insert(keys.index("data.root"), _FOLDER)
    return expanded


def literal(argument: str) -> str:
    """Return a command-line override, quoted for Hydra's grammar if it names a path that needs quotes."""
    key, _, value = argument.partition("=")
    if key.lstrip("+") not in _PATHS or not value or is_plain(value) or value[0] in "'\"":
        return argument
    if _exists(value):
        return f"{key}={quoted(value)}"
    if _GRAMMAR.search(value):
        return argument
    parts = value.split(",")  # several values of a sweep
    return f"{key}={','.join(part if _BARE.fullmatch(part) else quoted(part) for part in parts)}"


def _exists(path: str) -> bool:
    try:
        return os.path.lexists(os.path.expanduser(path))
    except ValueError:  # it contains a null character
        return False
