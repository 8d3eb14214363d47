"""Builds backbones as staged nets whose state-dict keys are torchvision's."""

from collections import OrderedDict

import torchvision
from torch import nn

from thaw.errors import UserError
from thaw.models.staged import Normalize, StagedNet

NAMES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


def build_net(name: str, num_classes: int) -> StagedNet:
    """A randomly initialised net with a head of `num_classes` outputs.

    Raises:
        UserError: for a name that is none of `NAMES`.

    """
    if name not in NAMES:
        raise UserError(f"model.name={name!r} is unknown; the choices are {', '.join(NAMES)}.")
    resnet = torchvision.models.get_model(name, weights=None, num_classes=num_classes)
    *body, (head, classifier) = resnet.named_children()
    stages = OrderedDict([("normalize", Normalize()), *body, ("flatten", nn.Flatten()), (head, classifier)])
    return StagedNet(stages, config={"name": name, "num_classes": num_classes})
