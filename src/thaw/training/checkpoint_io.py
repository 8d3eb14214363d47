"""Checkpoints that are whole or not there."""

import os
from pathlib import Path

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO


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
