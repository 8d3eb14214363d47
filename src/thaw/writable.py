"""Places that are tried before work is done whose results would go there."""

import errno
import tempfile
from pathlib import Path

from thaw.configuration import is_run
from thaw.errors import UserError

_LOOKED_AT = 8192  # bytes, among which images and checkpoints have zeros


def refuse_unwritable(folder: Path, option: str) -> None:
    """Make `folder` if it is not there, and try to write into it.

    Raises:
        UserError: naming `option`, by which another folder is chosen, if that fails.

    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as trial:
            trial.write(bytes(4096))
    except OSError as error:
        raise UserError(_told(folder, error, option)) from error


def refuse_unwritable_file(path: Path, option: str) -> None:
    """As `refuse_unwritable`, for a file to be written into a folder that exists.

    Raises:
        UserError: also if a file would be replaced that is no text, such as a photograph, or that belongs to a run.

    """
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "Is a directory")
        if path.exists() and not path.is_file():  # /dev/stdout, a named pipe
            return
        if path.is_file():
            _refuse_precious(path, option)
        with tempfile.TemporaryFile(dir=path.parent) as trial:
            trial.write(bytes(4096))
    except OSError as error:
        raise UserError(_told(path, error, option)) from error


def _refuse_precious(path: Path, option: str) -> None:
    with path.open("rb") as file:
        is_text = b"\0" not in file.read(_LOOKED_AT)
    if not is_text or any(map(is_run, list(path.absolute().parents)[:2])):
        kind = "belongs to a run" if is_text else "is no text"
        raise UserError(f"{option}={path} would replace a file that {kind}: choose another place.")


def _told(path: Path, error: OSError, option: str) -> str:
    return f"{path} cannot be written ({error.strerror or error}): choose another place with {option}."
