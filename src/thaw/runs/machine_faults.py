"""Faults of the machine that libraries tell in words of their own: here in one sentence with the cure."""

import errno
import shutil
import traceback
from pathlib import Path

from thaw.errors import RunError
from thaw.runs.shown_commands import resume_command

_FULL = (errno.ENOSPC, errno.EDQUOT)
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
_LOADER = "torch.utils.data"
_SHARED_MEMORY = ("shared memory", "(shm)", "bus error")
_UNWRITTEN = ("PytorchStreamWriter failed", "inline_container")  # all that torch.save says of a disk


def machine_fault(error: BaseException, folder: Path, command: str = "") -> RunError | None:
    """What `error`, of a run in `folder` that `command` goes on with, says of the machine, if it does."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and cause not in chain:
        chain.append(cause)
    kept = _kept(folder, command or resume_command(folder))
    told = (fault(one, folder, kept) for one in chain for fault in (_shared_memory, _worker, _disk))
    return next((RunError(sentence) for sentence in told if sentence), None)


def _shared_memory(error: BaseException, folder: Path, kept: str) -> str | None:
    if not isinstance(error, RuntimeError) or not any(word in str(error).lower() for word in _SHARED_MEMORY):
        return None
    return (
        "the loader processes have too little shared memory: give more, in a container with docker run "
        f"--shm-size=8g, or lower data.num_workers (0 needs none); {kept}."
    )


def _worker(error: BaseException, folder: Path, kept: str) -> str | None:
    if isinstance(error, RuntimeError) and "DataLoader timed out" in str(error):
        return (
            f"a loader process gave no batch for {str(error).rpartition('after ')[2]}: see whether the images' disk "
            f"answers, or load in the main process with data.num_workers=0; {kept}."
        )
    died = isinstance(error, RuntimeError) and str(error).startswith(("DataLoader worker", "Pin memory thread"))
    # A process that dies while it hands a batch over leaves but a broken connection.
    hung_up = isinstance(error, ConnectionError | EOFError) and _came_through(error, _LOADER)
    if not died and not hung_up:
        return None
    return (
        "a loader process was killed, as the system does where memory runs out: lower data.num_workers (0 loads in "
        f"the main process) or data.batch_size, or free memory; {kept}."
    )


def _disk(error: BaseException, folder: Path, kept: str) -> str | None:
    number = error.errno if isinstance(error, OSError) else None
    path = getattr(error, "filename", None) or folder
    if number in _READ_ONLY:
        return f"{path} cannot be written ({error.strerror}): choose another folder with hydra.run.dir; {kept}."
    unwritten = isinstance(error, RuntimeError) and any(word in str(error) for word in _UNWRITTEN)
    if number not in _FULL and not unwritten:
        return None
    try:
        free = f"{shutil.disk_usage(folder).free / 1e6:.3g} MB are free"
    except OSError:
        free = "it cannot be asked how much is free"
    return (
        f"the disk of {folder} is full ({free}), so that something could not be written: make room or choose another "
        f"folder with hydra.run.dir; {kept}."
    )


def _kept(folder: Path, command: str) -> str:
    if (folder / "checkpoints" / "last.ckpt").is_file():
        return f"what was saved before is kept, and {command} goes on from there"
    return "nothing had been saved"


def _came_through(error: BaseException, module: str) -> bool:
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals.get("__name__", "").startswith(module) for frame, _ in frames)
