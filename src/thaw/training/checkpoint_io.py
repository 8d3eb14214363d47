"""Checkpoints that are written completely or not at all, and found again after the run's folder was moved."""

import os
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from thaw.errors import RunError, UserError
from thaw.runs.shown_commands import resume_command
from thaw.storage.checkpoints import read_checkpoint

_OVERHEAD = 2**20  # bytes of a checkpoint besides tensors: names, counters, rows


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoint IO that writes NAME.part and then renames it, so that a failure never destroys an older checkpoint.

    Lightning's own IO writes to the system's temporary folder, and copies from there to other file systems.
    """

    def save_checkpoint(self, checkpoint: dict, path: str | Path, storage_options=None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_room(checkpoint, path)
        part = path.with_name(f"{path.name}.part")
        try:
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        _sync_folder(path.parent)

    def load_checkpoint(self, path: str | Path, map_location=None, weights_only: bool | None = None) -> dict:
        return read_checkpoint(path)


def written_checkpoints(trainer: Trainer, folder: Path) -> list[str]:
    """Return the checkpoints in `folder` that the callbacks of `trainer` have saved, as paths relative to `folder`."""
    paths = set()
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint):
            paths |= {*callback.best_k_models, callback.best_model_path, callback.last_model_path}
        if isinstance(callback, LastCheckpoint):
            paths.add(callback.path)
    places = {Path(os.path.relpath(path, folder)) for path in paths if path and os.path.isfile(path)}
    return sorted(place.as_posix() for place in places if ".." not in place.parts)


def describe_checkpoint(path: str | Path, **entries: object) -> None:
    """Add `entries`, which must be tensors or plain values, to a checkpoint's description of the model."""
    checkpoint = read_checkpoint(path)
    AtomicCheckpointIO().save_checkpoint({**checkpoint, "thaw": {**checkpoint["thaw"], **entries}}, path)


def _check_room(checkpoint: dict, path: Path) -> None:
    needed, free = _bytes(checkpoint) + _OVERHEAD, shutil.disk_usage(path.parent).free
    if needed > free:
        kept = "; the checkpoint saved earlier is kept" if path.exists() else ""
        raise RunError(
            f"{path} needs {needed / 1e6:.1f} MB, but only {free / 1e6:.1f} MB are free{kept}. Free some disk "
            f"space; then {resume_command(path.parent.parent)} continues the run."
        )


def _bytes(value: object) -> int:
    if isinstance(value, torch.Tensor):
        return value.untyped_storage().nbytes()
    if isinstance(value, dict):
        return sum(map(_bytes, value.values()))
    return sum(map(_bytes, value)) if isinstance(value, list | tuple) else 0


def _sync_folder(folder: Path) -> None:
    """Write the folder to disk; otherwise a power failure can lose the names of new files."""
    if os.name == "nt":  # Windows cannot open folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class MovableCheckpoint(ModelCheckpoint):
    """ModelCheckpoint that finds its files again after the run's folder was moved."""

    def load_state_dict(self, state_dict: dict) -> None:
        keys, before = ("best_model_path", "kth_best_model_path", "last_model_path"), state_dict["dirpath"]
        files = {self.moved(path, before): score for path, score in state_dict["best_k_models"].items()}
        paths = {key: self.moved(state_dict[key], before) for key in keys}
        super().load_state_dict({**state_dict, **paths, "best_k_models": files, "dirpath": self.dirpath})

    def moved(self, path: str, before: str) -> str:
        """Return where a file is now; its `path` was saved when the checkpoint folder was at the path `before`."""
        return os.path.join(str(self.dirpath), os.path.relpath(path, before)) if path else path


class LastCheckpoint(MovableCheckpoint):
    """Callback that saves the checkpoint from which a run resumes. Saving takes at most about `share` of the time.

    The callback therefore skips epochs. It always saves after a phase's last epoch, and at a stop inside an epoch.
    """

    def __init__(self, share: float, **options):
        super().__init__(**options)
        if not share > 0:
            raise UserError(f"callbacks.last.share={share!r} must be a number above 0.")
        self.share = share
        self._due = 0.0

    @property
    def path(self) -> Path:
        return Path(str(self.dirpath)) / f"{self.filename}{self.FILE_EXTENSION}"

    def on_train_epoch_end(self, trainer, pl_module: Any) -> None:
        start = time.perf_counter()
        needed = trainer.current_epoch + 1 >= pl_module.phase.last or trainer.should_stop
        # All processes save or none: saving waits for all of them, and their clocks differ.
        if not trainer.strategy.reduce_boolean_decision(start >= self._due or needed, all=False):
            return
        super().on_train_epoch_end(trainer, pl_module)
        end = time.perf_counter()
        self._due = end + (end - start) / self.share

    def on_exception(self, trainer, pl_module, exception: BaseException) -> None:
        if isinstance(exception, SIGTERMException):
            trainer.save_checkpoint(self.path)
