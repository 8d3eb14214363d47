"""The ResNets as they were first published, for Caffe: torchvision's differ in strides, pooling and pixel values."""

import torch
import torchvision
from torch import nn

from thaw.models.staged import PerChannel

CAFFE_RESNETS = ("caffe_resnet50", "caffe_resnet101", "caffe_resnet152")

SMALLEST_IMAGE = 3  # the first pooling has no padding

_BGR_MEAN = (103.939, 116.779, 123.68)


class CaffePixels(PerChannel):
    """uint8 RGB images in 0..255 -> float BGR images less their mean, undivided."""

    def __init__(self):
        super().__init__((1.0, 1.0, 1.0), [-mean for mean in _BGR_MEAN])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images.flip(1))


def caffe_resnet(name: str, num_classes: int) -> nn.Module:
    """A torchvision ResNet that computes what He et al. (2015, github.com/KaimingHe/deep-residual-networks) published.

    A bottleneck halves the image in its first 1x1 convolution, not in the 3x3; the first pooling rounds up.
    """
    net = torchvision.models.get_model(name.removeprefix("caffe_"), weights=None, num_classes=num_classes)
    net.normalize = CaffePixels()
    net.maxpool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
    for layer in (net.layer2, net.layer3, net.layer4):
        first = layer[0]
        first.conv1.stride, first.conv2.stride = first.conv2.stride, first.conv1.stride
    return net
