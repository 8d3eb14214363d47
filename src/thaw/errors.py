"""Exceptions with one sentence for the user: the value, the reason and the choices."""

import re

from omegaconf.errors import ConfigAttributeError, GrammarParseError, InterpolationResolutionError

_LOOP = "Symlink loop from "


class UserError(ValueError):
    """Raised for an impossible option or argument; ends the program with status 2."""


class RunError(RuntimeError):
    """Raised when something fails at run time; ends the program with status 1."""


class FrozenTensorError(RunError):
    """Raised when a frozen tensor has changed."""


class UnreadableImageError(RunError):
    """Raised when an image cannot be decoded; the message names its path."""

    def __init__(self, message: str):
        # PyTorch raises the exception of a loader process again, with that process's traceback as the message.
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())


def error_with_sentence(error: BaseException | None) -> UserError | RunError | None:
    """Return the first UserError or RunError among `error` and its causes; translate known errors of libraries.

    Hydra wraps the exceptions of constructors in its own, so a UserError is often the cause of another exception.
    """
    while error is not None and not isinstance(error, UserError | RunError):
        if isinstance(error, InterpolationResolutionError | GrammarParseError):
            if missing := re.search(r"Missing mandatory value: ([\w.]+)", str(error.msg)):
                return UserError(f"{missing[1]} is not set and has no default: add {missing[1]}=….")
            reason = str(error.msg).splitlines()[0].rstrip(".")
            return UserError(f"{error.full_key}: {reason}; ${{…}} refers to another value of the configuration.")
        if isinstance(error, ConfigAttributeError):
            return UserError(f"{error.full_key} is missing from the configuration.")
        if isinstance(error, RuntimeError) and str(error).startswith(_LOOP):  # pathlib's, before Python 3.13
            return UserError(f"{str(error).removeprefix(_LOOP)} is a link that leads back to itself: name a real path.")
        # Lightning raises MisconfigurationException for incompatible options; some options need an optional package.
        if isinstance(error, ModuleNotFoundError) or type(error).__name__ == "MisconfigurationException":
            return UserError(f"{' '.join(str(error).split()).rstrip('.')}.")
        error = error.__cause__
    return error
