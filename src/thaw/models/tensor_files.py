"""Read weight files: .pth, .safetensors and .ckpt."""

import pickle
from pathlib import Path

import torch
from safetensors.torch import load, load_file

from thaw.errors import UserError
from thaw.storage.files import is_utf8

_CONTAINERS = ("state_dict", "model")  # keys under which training programs save the weights


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a file by name, without running code from the file.

    The names lose the prefixes `net.` and `module.`, which training programs add.

    Raises:
        UserError: if the file is not a weight file, or contains Python objects besides tensors and plain values.

    """
    try:
        is_safetensors = path.suffix == ".safetensors"
        content = read_safetensors(path) if is_safetensors else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # damaged bytes can raise any exception
        reason = _reason(error)
        raise UserError(
            f"cannot read weights from {path}: this must be a .safetensors file, or a .pth or .ckpt file that holds "
            f"only tensors ({reason})."
        ) from error
    for container in _CONTAINERS:
        if isinstance(content, dict) and isinstance(content.get(container), dict):
            content = content[container]
    named = content.items() if isinstance(content, dict) else ()
    tensors = {name.removeprefix("net.").removeprefix("module."): value for name, value in named}
    if not tensors or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
        raise UserError(f"cannot read weights from {path}: the file contains no named tensors.")
    return tensors


def _reason(error: Exception) -> str:
    """Return the first line of an error message, without PyTorch's advice to run the code in the file."""
    if isinstance(error, pickle.UnpicklingError):
        return "it contains something else"
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    # load_file needs less memory than load, but accepts only UTF-8 paths.
    return load_file(path) if is_utf8(path) else load(path.read_bytes())
