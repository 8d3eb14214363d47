"""Exceptions whose message is one sentence for the user: the wrong value, why it is wrong, and the valid choices."""

import re

from omegaconf.errors import ConfigAttributeError, GrammarParseError, InterpolationResolutionError

_LOOP = "Symlink loop from "


class UserError(ValueError):
    """Raised for an invalid option or argument; the program then exits with status 2."""


class RunError(RuntimeError):
    """Raised when something fails at run time; the program then exits with status 1."""


class FrozenTensorError(RunError):
    """Raised when a frozen tensor of a network has changed during training."""


class UnreadableImageError(RunError):
    """Raised when an image cannot be read or decoded; the message contains the path, if the image has one."""

    def __init__(self, message: str):
        # PyTorch re-raises a DataLoader worker's exception with a traceback before the message: remove this traceback.
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())


def error_with_sentence(error: BaseException | None) -> UserError | RunError | None:
    """Return the first UserError or RunError among `error` and its causes, or None.

    Known errors of OmegaConf, pathlib, imports and Lightning become a UserError. Causes matter, because Hydra wraps
    a constructor's exception in one of Hydra's own exceptions.
    """
    while error is not None and not isinstance(error, UserError | RunError):
        if isinstance(error, InterpolationResolutionError | GrammarParseError):
            if missing := re.search(r"Missing mandatory value: ([\w.]+)", str(error.msg)):
                return UserError(f"{missing[1]} is not set and has no default: add {missing[1]}=….")
            reason = str(error.msg).splitlines()[0].rstrip(".")
            return UserError(f"{error.full_key}: {reason}; ${{…}} refers to another value of the configuration.")
        if isinstance(error, ConfigAttributeError):
            return UserError(f"{error.full_key} is missing from the configuration.")
        if isinstance(error, RuntimeError) and str(error).startswith(_LOOP):  # raised by pathlib before Python 3.13
            return UserError(f"{str(error).removeprefix(_LOOP)} is a link that leads back to itself: name a real path.")
        # An option needs a package that is not installed, or (MisconfigurationException) Lightning refuses options.
        if isinstance(error, ModuleNotFoundError) or type(error).__name__ == "MisconfigurationException":
            return UserError(f"{' '.join(str(error).split()).rstrip('.')}.")
        error = error.__cause__
    return error
