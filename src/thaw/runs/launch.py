"""The start of a command that Hydra configures: what cannot be is told in one sentence, with status 2."""

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from hydra.errors import ConfigCompositionException, OverrideParseException, SearchPathException
from omegaconf.errors import OmegaConfBaseException

from thaw.errors import error_with_sentence
from thaw.pages.text import printable
from thaw.runs.overrides import sentence, with_additions
from thaw.runs.ownership import remove_new
from thaw.runs.run_folder import LEFTOVERS

_RAISE = "HYDRA_FULL_ERROR"  # of the environment: Hydra raises what it would print
_OF_SWEEPS = (".lock", "multirun.yaml")


def launch(main: Callable[[], object], conf: Path) -> None:
    """Call a function of `hydra.main` whose configuration is the file `conf`.

    A key that the configuration lacks and the code behind it takes is added to it, as `+key` would be. A command that
    ends with status 2 leaves no folder behind that it has made.
    """
    try:
        with _raised_by_hydra():
            try:
                main()
            except ConfigCompositionException as error:
                added = with_additions(error, sys.argv[1:], conf)
                if added is None:
                    raise
                _remove_new()
                sys.argv[1:] = added
                main()
    except (ConfigCompositionException, OverrideParseException, SearchPathException) as error:
        _refuse(error, sentence(error, sys.argv[1:], conf))
    except OmegaConfBaseException as error:
        told = error_with_sentence(error)
        if told is None:
            raise
        _refuse(error, str(told))
    except SystemExit as stop:
        if stop.code == 2:
            _remove_new()
        raise


@contextmanager
def _raised_by_hydra() -> Iterator[None]:
    before = os.environ.get(_RAISE)
    os.environ[_RAISE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_RAISE]
        else:
            os.environ[_RAISE] = before


def _refuse(error: Exception, told: str) -> NoReturn:
    if any(os.environ.get(name, "0") not in ("", "0") for name in ("THAW_DEBUG", _RAISE)):
        traceback.print_exc()
    print(f"error: {printable(told)}", file=sys.stderr)
    _remove_new()
    raise SystemExit(2) from error


def _remove_new() -> None:
    remove_new({*LEFTOVERS, *_OF_SWEEPS})
