"""Checkpoints that are whole or not there, wherever the run's folder is moved."""

import os
import time
from pathlib import Path

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the final name and renames, so that a fault never costs the checkpoint that was there.

    Lightning's own writing goes through the system's temporary folder, from where a file is copied, not renamed, if
    the run's folder lies on another file system.
    """

    def save_checkpoint(self, checkpoint: dict, path: str | Path, storage_options=None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        try:
            torch.save(checkpoint, part)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


class MovableCheckpoint(ModelCheckpoint):
    """A ModelCheckpoint that knows its files again after the run's folder was moved."""

    def load_state_dict(self, state: dict) -> None:
        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        files = {self._here(path): score for path, score in state["best_k_models"].items()}
        here = {path: self._here(state[path]) for path in paths}
        super().load_state_dict({**state, **here, "best_k_models": files, "dirpath": self.dirpath})

    def _here(self, path: str) -> str:
        return str(Path(self.dirpath) / Path(path).name) if path else path


class LastCheckpoint(MovableCheckpoint):
    """What a run is continued from: written after an epoch, unless that took more than `share` of the time.

    Epochs that are over in an instant need not be kept each by itself. After the last one of a phase it is written
    always.
    """

    def __init__(self, share: float, **options):
        super().__init__(**options)
        self.share = share
        self._due = 0.0

    def on_train_epoch_end(self, trainer, classifier) -> None:
        start = time.perf_counter()
        if start < self._due and trainer.current_epoch + 1 < classifier.phase.last and not trainer.should_stop:
            return
        super().on_train_epoch_end(trainer, classifier)
        end = time.perf_counter()
        self._due = end + (end - start) / self.share
