"""The original ResNets, published for Caffe. torchvision's ResNets have other strides, pooling and pixel values."""

import re
from typing import Any, cast

import torch
import torchvision
from torch import nn
from torchvision.models import ResNet

from thaw.errors import UserError
from thaw.models.families.family import Family, Tensors
from thaw.models.families.torchvision import check_size
from thaw.models.families.torchvision_chain import staged_net
from thaw.models.staged import PerChannel, StagedNet

_PREFIX = "caffe_"
_BGR_MEAN = (103.939, 116.779, 123.68)

# Layer names in weight files from Caffe converters and detectron2 -> torchvision's layer names.
_OUTER = {"conv1": "conv1", "bn_conv1": "bn1", "scale_conv1": "bn1", "fc1000": "fc"}
_OUTER |= {"stem.conv1": "conv1", "stem.conv1.norm": "bn1", "linear": "fc"}

# Caffe names the blocks of a stage res4a, res4b, res4c …, but in a long stage res4a, res4b1, res4b2 …
_CAFFE = re.compile(r"(res|bn|scale)([2-5])([a-z])(\d*)_branch(1|2[abc])")
_DETECTRON = re.compile(r"res([2-5])\.(\d+)\.(?:conv([123])|shortcut)(\.norm)?")


class Caffe(Family):
    """Caffe's ResNets, with torchvision's state-dict keys and the preprocessing `TUTORIAL`: resize 256, crop 224."""

    smallest = 3  # pixels; the first pooling has no padding and fails on smaller images

    def names(self) -> list[str]:
        return [f"{_PREFIX}resnet{depth}" for depth in (50, 101, 152)]

    def build(self, name: str, num_classes: int, image_size: int | None = None) -> StagedNet:
        """Build torchvision's ResNet and change it to compute what Caffe's original computes.

        In a bottleneck, Caffe's first 1x1 convolution has the stride of 2; in torchvision, the 3x3 convolution has it.
        Caffe's first pooling rounds its output size up.
        Source: He et al. 2015, github.com/KaimingHe/deep-residual-networks.
        """
        check_size(name, image_size, self.smallest)
        resnet = name.removeprefix(_PREFIX)
        net = cast(ResNet, torchvision.models.get_model(resnet, weights=None, num_classes=num_classes))
        net.normalize = CaffePixels()
        net.maxpool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        for layer in (net.layer2, net.layer3, net.layer4):
            first: Any = layer[0]
            first.conv1.stride, first.conv2.stride = first.conv2.stride, first.conv1.stride
        return staged_net(net, resnet, {"name": name, "num_classes": num_classes})

    def published_tensors(self, net: StagedNet) -> Tensors:
        raise UserError(
            f"weights=imagenet: torchvision publishes no weights for {net.config['name']}; choose weights=demo, "
            "weights=none, or weights=PATH of Caffe's weights, converted to PyTorch."
        )

    def adapted(self, net: StagedNet, tensors: Tensors) -> Tensors:
        return torchvision_names(super().adapted(net, tensors))


class CaffePixels(PerChannel):
    """uint8 RGB images in 0..255 -> float BGR images minus ImageNet's mean colour."""

    def __init__(self):
        super().__init__((1.0, 1.0, 1.0), [-mean for mean in _BGR_MEAN])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images.flip(1))


def torchvision_names(tensors: Tensors) -> Tensors:
    """Rename the tensors of a Caffe or detectron2 file to torchvision's names; keep unknown names.

    Caffe's ResNet-50 has a bias in its first convolution. It is merged into the batch norm after the convolution.
    """
    named = {}
    for key, tensor in tensors.items():
        path, _, kind = key.rpartition(".")
        new = f"{_path(path)}.{kind}" if path else key
        named[key if new in named else new] = tensor  # a duplicate keeps its old name, so load_backbone rejects it
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
    """`position` is the number of the convolution in its block (1, 2 or 3), or None for the shortcut."""
    module = f"{'bn' if norm else 'conv'}{position}" if position else f"downsample.{int(norm)}"
    return f"layer{int(stage) - 1}.{block}.{module}"
