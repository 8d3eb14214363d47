"""What a command line may leave out or say in a shorter way than Hydra takes it."""

import os
import re

from thaw.runs.shown_commands import is_plain, quoted

# Groups of conf/, of which an option is chosen by name.
GROUPS = (
    "callbacks", "data", "experiment", "logger", "mix", "model", "optimizer", "scheduler", "strategy", "sweep",
    "trainer",
)  # fmt: skip
_FOLDER = "data=image_folder"
_PATHS = ("data.root", "weights", "hydra.run.dir", "hydra.sweep.dir")
_GRAMMAR = re.compile(r"[$(){}\[\]'\"]")  # of Hydra's, which a value means if no file has that name
_BARE = re.compile(r"[A-Za-z0-9_./@%+:*?|\\ -]*")  # what Hydra's grammar reads without quotes


def expand_shorthand(arguments: list[str]) -> list[str]:
    """`arguments` of the command line in Hydra's terms.

    Where images lie says that they are not the demo's drawings: `data.root=PHOTOS` alone chooses image folders. No
    option of a group, `mix=null`, is an empty list to Hydra. A path may have any characters without further quotes.
    """
    told = [
        f"{key}=[]" if argument == f"{key}=null" and key in GROUPS else literal(argument)
        for argument, key in _keys(arguments)
    ]
    keys = [key.lstrip("+~") for _, key in _keys(arguments)]
    if "data.root" in keys and "data" not in keys:
        told.insert(keys.index("data.root"), _FOLDER)
    return told


def literal(argument: str) -> str:
    """An override of the command line, quoted for Hydra's grammar where it names a path that needs it."""
    key, _, value = argument.partition("=")
    if key.lstrip("+") not in _PATHS or not value or is_plain(value) or value[0] in "'\"":
        return argument
    if _exists(value):
        return f"{key}={quoted(value)}"
    if _GRAMMAR.search(value):
        return argument
    parts = value.split(",")  # in a sweep, several
    return f"{key}={','.join(part if _BARE.fullmatch(part) else quoted(part) for part in parts)}"


def _exists(path: str) -> bool:
    try:
        return os.path.lexists(os.path.expanduser(path))
    except ValueError:  # it holds a null character
        return False


def _keys(arguments: list[str]) -> list[tuple[str, str]]:
    """Each argument with the key that it sets, which of a flag is the flag itself."""
    return [(argument, argument.partition("=")[0]) for argument in arguments]
