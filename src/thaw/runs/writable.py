"""Check, before long work starts, that the results can be written."""

import errno
import re
import tempfile
from pathlib import Path

from thaw.errors import UserError
from thaw.runs.configuration import is_run

# Matches the beginning of a file that predict writes: CSV, JSON, a table or a gallery page.
_PREDICTIONS = re.compile(
    rb"path,predicted,confidence|\{\"path\": |[^\n]+  [^\n]+  [01]\.\d{4}(\s|$)"
    rb"|<!doctype html>.*<title>Thaw: [\d,]+ prediction",
    re.DOTALL,
)
_READ = 8192  # bytes to look at; images and checkpoints contain zero bytes, text does not


def refuse_unwritable(folder: Path, option: str) -> None:
    """Create `folder` if necessary, and raise UserError if no file can be written into it.

    The message names `option`, the command-line option that chooses another folder.
    """
    try:
        try_to_write(folder)
    except OSError as error:
        raise UserError(_sentence(folder, error, option)) from error


def try_to_write(folder: Path) -> None:
    """Create `folder` if necessary, and write a temporary file into it; raise OSError if this fails."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_a_little(folder)


def _write_a_little(folder: Path) -> None:
    with tempfile.TemporaryFile(dir=folder) as trial:
        trial.write(bytes(4096))


def refuse_unwritable_file(path: Path, option: str) -> None:
    """Raise UserError if the file `path` cannot be written, belongs to a run, or exists and contains no predictions.

    The folder of `path` must exist. The message names `option`, the command-line option that sets `path`.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "Is a directory")
        if path.exists() and not path.is_file():  # such as /dev/stdout or a named pipe
            return
        if path.is_file():
            _refuse_precious(path, option)
        _write_a_little(path.parent)
    except OSError as error:
        raise UserError(_sentence(path, error, option)) from error


def _refuse_precious(path: Path, option: str) -> None:
    with path.open("rb") as file:
        content = file.read(_READ)
    kind = ""
    if b"\0" in content:
        kind = "is not text"
    elif any(map(is_run, list(path.absolute().parents)[:2])):
        kind = "belongs to a run"
    elif content and not _PREDICTIONS.match(content):
        kind = "this command did not write"
    if kind:
        raise UserError(f"{option}={path} would replace a file that {kind}: choose another place.")


def _sentence(path: Path, error: OSError, option: str) -> str:
    return f"{path} cannot be written ({error.strerror or error}): choose another place with {option}."
