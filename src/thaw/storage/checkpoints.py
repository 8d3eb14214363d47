"""Read checkpoints with PyTorch alone, without Lightning."""

from pathlib import Path

import torch

from thaw.errors import RunError
from thaw.storage.files import is_utf8, refuse_remote


def read_checkpoint(path: str | Path) -> dict:
    """Return the content of a checkpoint, with tensors on the CPU; code in the file is never executed.

    Each tensor is loaded from disk on first use. If `path` is not UTF-8, all tensors are loaded at once, because
    PyTorch cannot map such a file into memory.

    Raises:
        UserError: if `path` is a URL.
        RunError: if the file is damaged, is not a dict, or contains objects other than tensors and plain values.

    """
    refuse_remote("a checkpoint", str(path))
    try:
        content = torch.load(path, "cpu", weights_only=True, mmap=is_utf8(path))
    except Exception as error:  # a damaged file can raise almost any exception
        raise RunError(
            f"cannot read the checkpoint {path}: it is damaged, or contains Python objects, which Thaw never saves. "
            "Start its run again."
        ) from error
    if not isinstance(content, dict):
        raise RunError(f"{path} is not a checkpoint: a checkpoint is a dict of values.")
    return content
