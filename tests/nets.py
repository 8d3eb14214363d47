"""A net small enough to train in milliseconds, with every kind of stage that a backbone has."""

from collections import OrderedDict

from torch import nn

from thaw.models.staged import Normalize, StagedNet


def tiny_net(num_classes: int, name: str = "tiny", image_size: int | None = None) -> StagedNet:
    stages = OrderedDict(
        normalize=Normalize(),
        conv1=nn.Conv2d(3, 6, 3, stride=2, bias=False),
        bn1=nn.BatchNorm2d(6),
        relu=nn.ReLU(),
        layer1=nn.Sequential(nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8), nn.ReLU()),
        avgpool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        fc=nn.Linear(8, num_classes),
    )
    return StagedNet(stages, {stage: [stage] for stage in stages}, config={"name": name, "num_classes": num_classes})
