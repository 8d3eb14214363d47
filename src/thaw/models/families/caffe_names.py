"""The names that converters from Caffe, and detectron2, give to a ResNet's tensors, in torchvision's terms."""

import re

import torch

_OUTER = {"conv1": "conv1", "bn_conv1": "bn1", "scale_conv1": "bn1", "fc1000": "fc"}
_OUTER |= {"stem.conv1": "conv1", "stem.conv1.norm": "bn1", "linear": "fc"}

# res4a, res4b … are a stage's blocks, or res4a, res4b1, res4b2 … where the alphabet would not do.
_CAFFE = re.compile(r"(res|bn|scale)([2-5])([a-z])(\d*)_branch(1|2[abc])")
_DETECTRON = re.compile(r"res([2-5])\.(\d+)\.(?:conv([123])|shortcut)(\.norm)?")


def torchvision_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """`tensors` under torchvision's names; those whose names are of no known kind keep them.

    A bias of the first convolution, which Caffe's ResNet-50 has, is taken into the batch-norm behind it.
    """
    named = {}
    for key, tensor in tensors.items():
        path, _, kind = key.rpartition(".")
        new = f"{_path(path)}.{kind}" if path else key
        named[key if new in named else new] = tensor  # under its own name, a second one is refused as too many
    bias, mean = named.get("conv1.bias"), named.get("bn1.running_mean")
    if bias is not None and mean is not None and bias.shape == mean.shape:
        named["bn1.running_mean"] = mean - named.pop("conv1.bias")
    return named


def _path(path: str) -> str:
    caffe, detectron = _CAFFE.fullmatch(path), _DETECTRON.fullmatch(path)
    if caffe:
        kind, stage, letter, number, branch = caffe.groups()
        block = int(number) if number else ord(letter) - ord("a")
        return _layer(stage, block, "abc".find(branch[1:]) + 1 if branch != "1" else None, norm=kind != "res")
    if detectron:
        stage, block, position, norm = detectron.groups()
        return _layer(stage, block, position, norm=bool(norm))
    return _OUTER.get(path, path)


def _layer(stage: str, block: int | str, position: int | str | None, norm: bool) -> str:
    """`position` is that of a convolution in its block, or None for the shortcut's."""
    module = f"{'bn' if norm else 'conv'}{position}" if position else f"downsample.{int(norm)}"
    return f"layer{int(stage) - 1}.{block}.{module}"
