"""Translate the short forms that Thaw's command line accepts into Hydra's syntax."""

import os
import re

from thaw.runs.shown_commands import is_plain, quoted

# The configuration groups in conf/.
GROUPS = (
    "callbacks", "data", "experiment", "logger", "mix", "model", "optimizer", "scheduler", "search",
    "strategy", "sweep", "trainer",
)  # fmt: skip
_FOLDER = "data=image_folder"
_PATHS = ("data.root", "data.table", "weights", "hydra.run.dir", "hydra.sweep.dir")
_GRAMMAR = re.compile(r"[$(){}\[\]'\"]")  # special to Hydra: a value with these is quoted only if it exists as a path
_BARE = re.compile(r"[A-Za-z0-9_./@%+:*?|\\ -]*")  # characters that Hydra's grammar reads without quotes


def expand_shorthand(arguments: list[str]) -> list[str]:
    """Return command-line `arguments` in Hydra's syntax.

    `data.root=PHOTOS` without `data=…` adds `data=image_folder`. `GROUP=null` becomes `GROUP=[]`, because `null` is not
    an option of a group. Paths are quoted, so that they may contain any characters.
    """
    emptied = {f"{group}=null": f"{group}=[]" for group in GROUPS}
    expanded = [emptied.get(argument) or literal(argument) for argument in arguments]
    keys = [argument.partition("=")[0].lstrip("+~") for argument in arguments]
    if "data.root" in keys and "data" not in keys:
        expanded.insert(keys.index("data.root"), _FOLDER)
    return expanded


def literal(argument: str) -> str:
    """Return the override `argument`, with quotes around its value if this is a path that Hydra could not read."""
    key, _, value = argument.partition("=")
    if key == "data.table" and os.path.isfile(value):  # a resumed run can be in another folder
        value = os.path.abspath(value)
        argument = f"{key}={value}"
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
    except ValueError:  # `path` contains a null character
        return False
