"""Pretrained weights: load them from their source, and check that they fit the backbone."""

from pathlib import Path

import torch

from thaw.errors import UserError
from thaw.models.backbones import family_of
from thaw.models.families.family import COUNTER, Tensors
from thaw.models.origin import Origin
from thaw.models.staged import StagedNet
from thaw.models.tensor_files import read_tensors
from thaw.storage.files import refuse_remote


def load_weights(net: StagedNet, weights: str) -> None:
    """Load `weights` (imagenet, none or the path of a file) into all stages of `net` except the head.

    Raises:
        UserError: if the weights do not exist, cannot be read or downloaded, or do not fit the network.

    """
    if weights == "none":
        return
    refuse_remote("weights", weights)
    if weights == "imagenet":
        tensors = family_of(net.config["name"], own=True).published_tensors(net)
    elif Path(weights).expanduser().is_file():
        tensors = read_tensors(Path(weights).expanduser())
    else:
        raise UserError(
            f"weights={weights} is neither a file nor a name; the choices are imagenet, demo, none or the path of a "
            ".pth, .safetensors or .ckpt file."
        )
    load_backbone(net, tensors, source=f"weights={weights}")


def weights_origin(net: StagedNet, weights: str) -> Origin | None:
    """Return where `weights` (imagenet, demo, none or the path of a file) come from; None for none."""
    if weights == "none":
        return None
    if weights == "demo":
        return Origin("Thaw's own pretraining on drawings (weights=demo)", None, "Thaw states no licence for them")
    if weights == "imagenet":
        return family_of(net.config["name"], own=True).origin(net.config["name"])
    return Origin(f"the file {Path(weights).name}", None, "the file states no licence")


def load_backbone(net: StagedNet, tensors: Tensors, source: str) -> None:
    """Copy `tensors` into all stages of `net` except the head. Names and shapes must match exactly.

    Raises:
        UserError: if a tensor is missing, is unknown or has another shape; the message names `source` and the tensor.

    """
    own = {key: tensor for key, tensor in net.state_dict().items() if not net.is_head(key)}
    adapted = family_of(net.config["name"], own=True).adapted(net, tensors)
    given = {key: tensor for key, tensor in adapted.items() if not net.is_head(key)}
    for key in own.keys() - given.keys():
        if key.endswith(COUNTER):  # files from before PyTorch 0.4.1 lack these counters
            given[key] = own[key]
    fault = _misfit(own, given)
    if fault:
        raise UserError(f"{source} does not fit {net.config['name']}: {fault}.")
    with torch.no_grad():
        for key, tensor in own.items():
            tensor.copy_(given[key])


def _misfit(own: Tensors, given: Tensors) -> str:
    for key, tensor in own.items():
        if key not in given:
            return f"it has no tensor {key!r}"
        if given[key].shape != tensor.shape:
            return f"its tensor {key!r} has the shape {tuple(given[key].shape)} instead of {tuple(tensor.shape)}"
    more = [key for key in given if key not in own]
    return f"it has a tensor {more[0]!r} that the network lacks" if more else ""
