"""`sweep=NAME`: run the values in conf/sweep/NAME.yaml as a multirun of Hydra."""

_MULTIRUN = frozenset(("-m", "--multirun"))
_FLAGS = (
    *_MULTIRUN,
    *("-c", "--cfg", "-i", "--info", "-h", "--help", "--hydra-help", "-sc", "--shell-completion"),
)


def add_multirun_flag(arguments: list[str]) -> list[str]:
    """Return command-line `arguments` with Hydra's multirun flag first, if they ask for a sweep.

    Hydra does not accept a flag between two overrides, so such a flag moves to the front.
    """
    asked = any(
        argument.startswith("sweep=") and argument not in ("sweep=", "sweep=null", "sweep=[]") for argument in arguments
    )
    flagged = any(argument.split("=")[0] in _FLAGS for argument in arguments)
    if asked and not flagged:
        return ["--multirun", *arguments]
    flags = [argument for argument in arguments if argument in _MULTIRUN]
    return [*flags, *(argument for argument in arguments if argument not in _MULTIRUN)]


def without_recipe(overrides: list[str]) -> list[str]:
    """Return the overrides of a single job, which runs and resumes without `sweep=NAME`."""
    return [override for override in overrides if not override.startswith("sweep=")]
