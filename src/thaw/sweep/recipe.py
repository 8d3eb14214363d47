"""`sweep=NAME`: what conf/sweep/NAME.yaml says to run, as Hydra's multirun."""

_MULTIRUN = frozenset(("-m", "--multirun"))
_FLAGS = (
    *_MULTIRUN,
    "-c",
    "--cfg",
    "-i",
    "--info",
    "-h",
    "--help",
    "--hydra-help",
    "-sc",
    "--shell-completion",
)


def add_multirun_flag(arguments: list[str]) -> list[str]:
    """`arguments` of the command line, with Hydra's flag for several runs first where a sweep is to be run.

    Hydra takes no flag between two overrides.
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
    """Of a single job, which is to be run, and continued, as what it is."""
    return [override for override in overrides if not override.startswith("sweep=")]
