"""A backbone as an ordered list of named stages, the last of them the head."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Normalize(nn.Module):
    """uint8 images (N, 3, H, W) in 0..255 to float: (x / 255 - mean) / std, per channel.

    The constants are no part of the state dict, so its keys stay those of the published weights.
    """

    def __init__(self, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD):
        super().__init__()
        mean, std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)
        self.register_buffer("scale", 1 / (255 * std), persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images * self.scale + self.shift


class StagedNet(nn.Sequential):
    """uint8 images (N, 3, H, W) -> logits (N, classes), through stages that can be indexed, sliced and frozen by name.

    `config` holds plain values that build an equal net again with `thaw.models.backbones.build_net`.
    """

    def __init__(self, stages: "OrderedDict[str, nn.Module]", config: dict):
        super().__init__(stages)
        self.config = config
        self.head_name = next(reversed(stages))

    @property
    def learned_stages(self) -> list[str]:
        """The names of the stages that hold parameters, from the input to the head."""
        return [name for name, stage in self.named_children() if any(True for _ in stage.parameters())]

    def is_head(self, key: str) -> bool:
        """Whether a state-dict key belongs to the head."""
        return key.split(".")[0] == self.head_name
