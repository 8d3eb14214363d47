"""Faults that are told in one sentence: the value, the reason and the choices."""

import re

from omegaconf.errors import ConfigAttributeError, GrammarParseError, InterpolationResolutionError


class UserError(ValueError):
    """Something that was asked for cannot be: ends the program with status 2."""


class RunError(RuntimeError):
    """Something went wrong on the way: ends the program with status 1."""


class FrozenTensorError(RunError):
    """Something frozen is not what it was."""


class UnreadableImageError(RunError):
    """An image that cannot be decoded; the sentence names its path."""

    def __init__(self, message: str):
        # A loader worker's exception is rebuilt here with that worker's whole traceback as its message.
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())


def error_with_sentence(error: BaseException | None) -> UserError | RunError | None:
    """The error with a sentence among `error` and its causes (Hydra wraps what a constructor raises)."""
    while error is not None and not isinstance(error, UserError | RunError):
        if isinstance(error, InterpolationResolutionError | GrammarParseError):
            if missing := re.search(r"Missing mandatory value: ([\w.]+)", str(error.msg)):
                return UserError(f"{missing[1]} is not set, and there is no default for it: add {missing[1]}=….")
            reason = str(error.msg).splitlines()[0].rstrip(".")
            return UserError(f"{error.full_key}: {reason}; ${{…}} refers to another value of the configuration.")
        if isinstance(error, ConfigAttributeError):
            return UserError(f"{error.full_key} is missing from the configuration.")
        # Lightning's name for options that do not go together; and what an option needs may not be installed.
        if isinstance(error, ModuleNotFoundError) or type(error).__name__ == "MisconfigurationException":
            return UserError(f"{' '.join(str(error).split()).rstrip('.')}.")
        error = error.__cause__
    return error
