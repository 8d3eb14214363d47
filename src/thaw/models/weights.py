"""Pretrained weights for a backbone: where they come from, and whether they fit."""

import math
import os
import re
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlparse

import torch
import torchvision
from safetensors.torch import load_file
from torchvision.models.vision_transformer import interpolate_embeddings

from thaw.errors import UserError
from thaw.models.families.caffe import CAFFE_RESNETS
from thaw.models.families.caffe_names import torchvision_names
from thaw.models.families.lite import COUNTER, INSTALL, in_order, packaged_file
from thaw.models.families.timm_nets import TimmNet, own_names, pretrained_tensors
from thaw.models.staged import StagedNet
from thaw.storage.addresses import refuse_remote

Tensors = dict[str, torch.Tensor]

# Heads that only training needed, in GoogLeNet and Inception.
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")

# Names in published files, and today's: DenseNet's are older than the rule that a name has no dots, ViT's than its MLP.
_OLDER_NAMES = (
    (re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\."), r"\1\2."),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_1\."), r"\1.0."),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_2\."), r"\1.3."),
)

_POSITIONS = "encoder.pos_embedding"

# A file that was written by a training program: where its weights lie, and what it put before their names.
_CONTAINERS = ("state_dict", "model")
_PREFIXES = ("net.", "module.")


def load_weights(net: StagedNet, weights: str) -> None:
    """Fill all of `net` but its head from `weights`: imagenet, none or the path of a file.

    Raises:
        UserError: if there is no such source, it cannot be read or downloaded, or its tensors do not fit.

    """
    if weights == "none":
        return
    refuse_remote("weights", weights)
    if weights == "imagenet":
        tensors = _published_tensors(net)
    elif Path(weights).expanduser().is_file():
        tensors = read_tensors(Path(weights).expanduser())
    else:
        raise UserError(
            f"weights={weights} is neither a file nor a name; the choices are imagenet, demo, none or the path of a "
            ".pth, .safetensors or .ckpt file."
        )
    load_backbone(net, tensors, source=f"weights={weights}")


def _published_tensors(net: StagedNet) -> Tensors:
    """From an installed package, else as timm or torchvision downloads them."""
    file = packaged_file(net.config["name"])
    if file:
        return in_order(net, read_tensors(file), source=f"weights=imagenet: {file}")
    return pretrained_tensors(net) if isinstance(net, TimmNet) else imagenet_tensors(net.config["name"])


def load_backbone(net: StagedNet, tensors: Tensors, source: str) -> None:
    """Copy `tensors` into all stages of `net` but the head, which must fit exactly.

    Raises:
        UserError: naming `source` and the first tensor that is missing, too many or of another shape.

    """
    own = {key: tensor for key, tensor in net.state_dict().items() if not net.is_head(key)}
    current = _adapted(net, tensors)
    given = {key: tensor for key, tensor in current.items() if not net.is_head(key) and not key.startswith(_AUXILIARY)}
    for key in own.keys() - given.keys():
        if key.endswith(COUNTER):  # counted by PyTorch since 0.4.1; older files lack it
            given[key] = own[key]
    fault = _misfit(own, given)
    if fault:
        raise UserError(f"{source} does not fit {net.config['name']}: {fault}.")
    with torch.no_grad():
        for key, tensor in own.items():
            tensor.copy_(given[key])


def read_tensors(path: Path) -> Tensors:
    """The tensors of a file by name, never running code that it holds.

    Raises:
        UserError: if it is no such file, or holds more than plain values.

    """
    try:
        content = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # any kind can come out of bytes that are not what they should be
        reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        raise UserError(
            f"cannot read weights from {path}: it must be a .safetensors file, or a .pth or .ckpt file that holds "
            f"tensors alone ({reason})."
        ) from error
    for container in _CONTAINERS:
        if isinstance(content, dict) and isinstance(content.get(container), dict):
            content = content[container]
    tensors = {_bare(name): value for name, value in content.items()} if isinstance(content, dict) else {}
    if not tensors or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
        raise UserError(f"cannot read weights from {path}: it holds no table of tensors by name.")
    return tensors


def imagenet_tensors(name: str) -> Tensors:
    """Torchvision's published weights, from its cache or downloaded into it.

    Raises:
        UserError: with the address and the file to put there by hand, if neither is possible; for a net of Caffe's.

    """
    if name in CAFFE_RESNETS:
        raise UserError(
            f"weights=imagenet: torchvision publishes none for {name}; choose weights=PATH with Caffe's weights "
            "converted to PyTorch, weights=demo or weights=none."
        )
    published = torchvision.models.get_model_weights(name).DEFAULT
    cached = Path(torch.hub.get_dir()) / "checkpoints" / os.path.basename(urlparse(published.url).path)
    try:
        return published.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (URLError, OSError) as error:
        raise UserError(
            f"weights=imagenet: {published.url} could not be downloaded ({getattr(error, 'reason', None) or error}); "
            f"put the file at {cached}, take model=efficientnet_lite0 ({INSTALL}), or choose "
            "weights=demo, weights=none or weights=PATH."
        ) from error
    except Exception as error:  # see read_tensors; a download that fails its checksum is not kept
        fault = f"{cached} is damaged; delete it" if cached.exists() else "the download was damaged; run again"
        raise UserError(f"weights=imagenet: {fault} to have it downloaded anew from {published.url}.") from error


def _bare(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _adapted(net: StagedNet, tensors: Tensors) -> Tensors:
    """`tensors` under the net's own names, with position embeddings for the net's size of images."""
    if isinstance(net, TimmNet):
        return own_names(net, tensors)
    current = {}
    for key, tensor in tensors.items():
        for older, newer in _OLDER_NAMES:
            key = older.sub(newer, key)
        current[key] = tensor
    if net.config["name"] in CAFFE_RESNETS:
        current = torchvision_names(current)
    own, given = (tensors.get(_POSITIONS) for tensors in (net.state_dict(), current))
    if own is None or given is None or given.ndim != 3 or math.isqrt(given.shape[1] - 1) ** 2 != given.shape[1] - 1:
        return current
    return interpolate_embeddings(math.isqrt(own.shape[1] - 1), 1, current)


def _misfit(own: Tensors, given: Tensors) -> str:
    for key, tensor in own.items():
        if key not in given:
            return f"it has no tensor {key!r}"
        if given[key].shape != tensor.shape:
            return f"its tensor {key!r} has the shape {tuple(given[key].shape)} where {tuple(tensor.shape)} is needed"
    more = [key for key in given if key not in own]
    return f"it has a tensor {more[0]!r} that the net lacks" if more else ""
