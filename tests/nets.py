"""Nets small enough to train in milliseconds, with every kind of stage that a backbone has."""

from collections import OrderedDict

from torch import nn

from thaw.models.staged import Normalize, StagedNet


def tiny_net(num_classes: int, name: str = "tiny", image_size: int | None = None, dropout: float = 0) -> StagedNet:
    modules = OrderedDict(
        normalize=Normalize(),
        conv1=nn.Conv2d(3, 6, 3, stride=2, bias=False),
        bn1=nn.BatchNorm2d(6),
        relu=nn.ReLU(),
        layer1=nn.Sequential(nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8), nn.ReLU()),
        avgpool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        dropout=nn.Dropout(dropout),
        fc=nn.Linear(8, num_classes),
    )
    stages = {
        "normalize": ["normalize"],
        "conv1": ["conv1", "bn1", "relu"],
        "layer1": ["layer1", "avgpool", "flatten"],
        "fc": ["dropout", "fc"],
    }
    return StagedNet(modules, stages, config={"name": name, "num_classes": num_classes})


def normless_net(num_classes: int, name: str = "normless", image_size: int | None = None) -> StagedNet:
    """Build a net without batch norm: its gradients are means over images, however a batch is divided."""
    modules = OrderedDict(
        normalize=Normalize(),
        conv1=nn.Conv2d(3, 6, 5, stride=3),
        relu=nn.ReLU(),
        conv2=nn.Conv2d(6, 6, 3),
        conv3=nn.Conv2d(6, 6, 1),
        avgpool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        fc=nn.Linear(6, num_classes),
    )
    stages = {"normalize": ["normalize"], "conv1": ["conv1", "relu"], "conv2": ["conv2"]}
    stages |= {"conv3": ["conv3", "avgpool", "flatten"], "fc": ["fc"]}
    return StagedNet(modules, stages, config={"name": name, "num_classes": num_classes})


def tiny_resnet(num_classes: int, name: str = "tiny_resnet", image_size: int | None = None) -> StagedNet:
    """Build a net with the stages of a ResNet: two convolutions each, one with batch norm, one with a bias."""
    widths = {"layer1": 4, "layer2": 6, "layer3": 6, "layer4": 8}
    modules, stages, width = OrderedDict(normalize=Normalize()), {"normalize": ["normalize"]}, 4
    modules |= OrderedDict(conv1=nn.Conv2d(3, width, 3, stride=2, bias=False), bn1=nn.BatchNorm2d(width))
    stages["conv1"] = ["conv1", "bn1"]
    for layer, wider in widths.items():
        modules[layer] = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(width, wider, 3, padding=1, bias=False),
                bn1=nn.BatchNorm2d(wider),
                relu1=nn.ReLU(),
                conv2=nn.Conv2d(wider, wider, 1),
                relu2=nn.ReLU(),
            )
        )
        stages[layer], width = [layer], wider
    modules |= OrderedDict(avgpool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(width, num_classes))
    stages |= {"layer4": ["layer4", "avgpool", "flatten"], "fc": ["fc"]}
    return StagedNet(modules, stages, config={"name": name, "num_classes": num_classes})
