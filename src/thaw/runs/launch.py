"""Start a command that Hydra configures. If the command line is wrong, print one error and exit with status 2."""

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
from thaw.runs import run_files
from thaw.runs.overrides import describe_fault, with_additions
from thaw.runs.ownership import remove_new
from thaw.runs.run_folder import LEFTOVERS
from thaw.runs.streams import print_error

_RAISE = "HYDRA_FULL_ERROR"  # environment variable that makes Hydra raise errors instead of printing them


def launch(main: Callable[[], object], conf: Path) -> None:
    """Call `main`, a function decorated with `hydra.main` whose main configuration file is `conf`.

    An override of a key that the configuration lacks is treated as `+key=value` if the configured class or function
    accepts this key. A command that ends with status 2 removes the folders that it created.
    """
    try:
        with _hydra_raises():
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
        _refuse(error, describe_fault(error, sys.argv[1:], conf))
    except OmegaConfBaseException as error:
        explained = error_with_sentence(error)
        if explained is None:
            raise
        _refuse(error, str(explained))
    except SystemExit as stop:
        if stop.code == 2:
            _remove_new()
        raise


@contextmanager
def _hydra_raises() -> Iterator[None]:
    before = os.environ.get(_RAISE)
    os.environ[_RAISE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_RAISE]
        else:
            os.environ[_RAISE] = before


def _refuse(error: Exception, sentence: str) -> NoReturn:
    if any(os.environ.get(name, "0") not in ("", "0") for name in ("THAW_DEBUG", _RAISE)):
        traceback.print_exc()
    print_error(sentence)
    _remove_new()
    raise SystemExit(2) from error


def _remove_new() -> None:
    remove_new({*LEFTOVERS, run_files.SWEEP_LOCK, run_files.SWEEP_CONFIG})
