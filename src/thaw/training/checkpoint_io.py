"""Checkpoints that are whole or not there, wherever the run's folder is moved."""

import os
import shutil
import time
from pathlib import Path

import torch
from lightning import Trainer
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from thaw.errors import RunError, UserError
from thaw.runs.shown_commands import resume_command
from thaw.storage.checkpoints import read_checkpoint

_OVERHEAD = 2**20  # bytes of a checkpoint that are no tensor's: names, counters, rows


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the final name and renames, so that a fault never costs the checkpoint that was there.

    Lightning's own writing goes through the system's temporary folder, from where a file is copied, not renamed, if
    the run's folder lies on another file system.
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
    """Return the checkpoints in `folder`, relative to it, that the callbacks of `trainer` have written and kept."""
    paths = set()
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint):
            paths |= {*callback.best_k_models, callback.best_model_path, callback.last_model_path}
        if isinstance(callback, LastCheckpoint):
            paths.add(callback.path)
    places = {Path(os.path.relpath(path, folder)) for path in paths if path and os.path.isfile(path)}
    return sorted(place.as_posix() for place in places if ".." not in place.parts)


def describe_checkpoint(path: str | Path, **entries: object) -> None:
    """Add plain values to what a checkpoint says of the model in it."""
    checkpoint = read_checkpoint(path)
    AtomicCheckpointIO().save_checkpoint({**checkpoint, "thaw": {**checkpoint["thaw"], **entries}}, path)


def _check_room(checkpoint: dict, path: Path) -> None:
    """Raises:
    RunError: if `checkpoint` will not fit beside what is there, which a file that is replaced still needs.

    """
    needed, free = _bytes(checkpoint) + _OVERHEAD, shutil.disk_usage(path.parent).free
    if needed > free:
        kept = "; what was saved there before is kept" if path.exists() else ""
        raise RunError(
            f"{path} needs {needed / 1e6:.1f} MB and {free / 1e6:.1f} MB are free{kept}: make room there, and "
            f"{resume_command(path.parent.parent)} goes on."
        )


def _bytes(value: object) -> int:
    """Of all tensors in plain containers."""
    if isinstance(value, torch.Tensor):
        return value.untyped_storage().nbytes()
    if isinstance(value, dict):
        return sum(map(_bytes, value.values()))
    return sum(map(_bytes, value)) if isinstance(value, list | tuple) else 0


def _sync_folder(folder: Path) -> None:
    """A new name outlives a loss of power only when its folder has been written, too."""
    if os.name == "nt":  # where folders cannot be opened
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class MovableCheckpoint(ModelCheckpoint):
    """A ModelCheckpoint that knows its files again after the run's folder was moved."""

    def load_state_dict(self, state: dict) -> None:
        paths, before = ("best_model_path", "kth_best_model_path", "last_model_path"), state["dirpath"]
        files = {self.here(path, before): score for path, score in state["best_k_models"].items()}
        here = {path: self.here(state[path], before) for path in paths}
        super().load_state_dict({**state, **here, "best_k_models": files, "dirpath": self.dirpath})

    def here(self, path: str, before: str) -> str:
        """Return where a file is now that was saved when the folder was `before`."""
        return os.path.join(self.dirpath, os.path.relpath(path, before)) if path else path


class LastCheckpoint(MovableCheckpoint):
    """What a run is continued from: written after an epoch, unless that took more than `share` of the time.

    Epochs that are over in an instant need not be kept each by itself. After the last one of a phase it is written
    always, and so it is where a run is stopped, inside of an epoch, too.
    """

    def __init__(self, share: float, **options):
        super().__init__(**options)
        if not share > 0:
            raise UserError(f"callbacks.last.share={share!r} must be a number above 0.")
        self.share = share
        self._due = 0.0

    @property
    def path(self) -> Path:
        return Path(self.dirpath) / f"{self.filename}{self.FILE_EXTENSION}"

    def on_train_epoch_end(self, trainer, classifier) -> None:
        start = time.perf_counter()
        if start < self._due and trainer.current_epoch + 1 < classifier.phase.last and not trainer.should_stop:
            return
        super().on_train_epoch_end(trainer, classifier)
        end = time.perf_counter()
        self._due = end + (end - start) / self.share

    def on_exception(self, trainer, classifier, exception: BaseException) -> None:
        if isinstance(exception, SIGTERMException):
            trainer.save_checkpoint(self.path)
