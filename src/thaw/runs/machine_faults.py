"""Explain errors that the machine causes, such as a full disk, in one sentence that says what to do."""

import errno
import shutil
import traceback
from pathlib import Path

from thaw.errors import RunError
from thaw.runs import run_files
from thaw.runs.shown_commands import resume_command

_FULL = (errno.ENOSPC, errno.EDQUOT)
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
_LOADER = "torch.utils.data"
_SHARED_MEMORY = ("shared memory", "(shm)", "bus error")
_UNWRITTEN = ("PytorchStreamWriter failed", "inline_container")  # how torch.save reports a full disk


def machine_fault(error: BaseException, folder: Path, command: str = "") -> RunError | None:
    """Return a RunError that explains `error`, or None if the machine did not cause it.

    `folder` is the folder of the run that failed; `command` is the command that resumes this run.
    """
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and cause not in chain:
        chain.append(cause)
    saved = _saved(folder, command or resume_command(folder))
    sentences = (find(one, folder, saved) for one in chain for find in (_shared_memory, _worker, _disk))
    return next((RunError(sentence) for sentence in sentences if sentence), None)


def _shared_memory(error: BaseException, folder: Path, saved: str) -> str | None:
    if not isinstance(error, RuntimeError) or not any(word in str(error).lower() for word in _SHARED_MEMORY):
        return None
    return (
        "the loader processes have too little shared memory: lower data.num_workers (0 starts no loader process) "
        f"or allow more shared memory (in a container: docker run --shm-size=8g); {saved}."
    )


def _worker(error: BaseException, folder: Path, saved: str) -> str | None:
    if isinstance(error, RuntimeError) and "DataLoader timed out" in str(error):
        return (
            f"a loader process sent no batch for {str(error).rpartition('after ')[2]}: check whether the images' disk "
            f"responds, or load in the main process with data.num_workers=0; {saved}."
        )
    died = isinstance(error, RuntimeError) and str(error).startswith(("DataLoader worker", "Pin memory thread"))
    # If a loader process dies while it sends a batch, the main process sees only a broken connection.
    hung_up = isinstance(error, ConnectionError | EOFError) and _came_through(error, _LOADER)
    if not died and not hung_up:
        return None
    return (
        "a loader process was killed, probably because memory ran out: lower data.num_workers (0 loads in "
        f"the main process) or data.batch_size, or free memory; {saved}."
    )


def _disk(error: BaseException, folder: Path, saved: str) -> str | None:
    if isinstance(error, OSError) and error.errno in _READ_ONLY:
        path = error.filename or folder
        return f"{path} cannot be written ({error.strerror}): choose another folder with hydra.run.dir; {saved}."
    full = isinstance(error, OSError) and error.errno in _FULL
    unwritten = isinstance(error, RuntimeError) and any(word in str(error) for word in _UNWRITTEN)
    if not full and not unwritten:
        return None
    try:
        free = f"{shutil.disk_usage(folder).free / 1e6:.3g} MB are free"
    except OSError:
        free = "its free space is unknown"
    return (
        f"the disk of {folder} is full ({free}), so a file could not be written: make room or choose another folder "
        f"with hydra.run.dir; {saved}."
    )


def _saved(folder: Path, command: str) -> str:
    if (folder / run_files.LAST).is_file():
        return f"the last checkpoint is kept, and {command} resumes from it"
    return "no checkpoint had been saved"


def _came_through(error: BaseException, module: str) -> bool:
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals.get("__name__", "").startswith(module) for frame, _ in frames)
