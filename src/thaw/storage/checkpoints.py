"""Reading checkpoints, which needs PyTorch alone."""

from pathlib import Path

import torch

from thaw.errors import RunError
from thaw.storage.addresses import refuse_remote


def read_checkpoint(path: str | Path) -> dict:
    """On the CPU, as far as it is looked at; whatever the file holds, no code of it is run.

    Raises:
        UserError: for an address in place of a path.
        RunError: for a file that is damaged, or that could run code if it was read in another way.

    """
    refuse_remote("a checkpoint", str(path))
    try:
        content = torch.load(path, "cpu", weights_only=True, mmap=True)
    except Exception as error:  # any kind can come out of bytes that are not what they should be
        raise RunError(
            f"cannot read the checkpoint {path}: it is damaged, or holds more than plain values, which Thaw never "
            "saves; a run that it belongs to has to start anew."
        ) from error
    if not isinstance(content, dict):
        raise RunError(f"{path} is no checkpoint: it holds no table of values by name.")
    return content
