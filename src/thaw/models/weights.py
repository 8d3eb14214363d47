"""Pretrained weights for a backbone: where they come from, and whether they fit."""

from pathlib import Path

import torch

from thaw.errors import UserError
from thaw.models.backbones import family_of
from thaw.models.families.family import COUNTER, Tensors
from thaw.models.staged import StagedNet
from thaw.models.tensor_files import read_tensors
from thaw.storage.addresses import refuse_remote


def load_weights(net: StagedNet, weights: str) -> None:
    """Fill all of `net` but its head from `weights`: imagenet, none or the path of a file.

    Raises:
        UserError: if there is no such source, it cannot be read or downloaded, or its tensors do not fit.

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


def load_backbone(net: StagedNet, tensors: Tensors, source: str) -> None:
    """Copy `tensors` into all stages of `net` but the head, which must fit exactly.

    Raises:
        UserError: naming `source` and the first tensor that is missing, too many or of another shape.

    """
    own = {key: tensor for key, tensor in net.state_dict().items() if not net.is_head(key)}
    adapted = family_of(net.config["name"], own=True).adapted(net, tensors)
    given = {key: tensor for key, tensor in adapted.items() if not net.is_head(key)}
    for key in own.keys() - given.keys():
        if key.endswith(COUNTER):  # counted by PyTorch since 0.4.1; older files lack it
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
            return f"its tensor {key!r} has the shape {tuple(given[key].shape)} where {tuple(tensor.shape)} is needed"
    more = [key for key in given if key not in own]
    return f"it has a tensor {more[0]!r} that the net lacks" if more else ""
