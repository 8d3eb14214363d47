"""torchvision's classification nets as staged nets, with torchvision's state-dict keys."""

import re
from collections import OrderedDict

import torch
import torchvision
from torch import nn

from thaw.errors import UserError
from thaw.models.staged import IMAGENET_MEAN, IMAGENET_STD, NORMS, Normalize, PerChannel, StagedNet

# What each family applies, one module after the other, as its forward method does; `x.*` are the children of `x`.
# flatten, mean, relu and pool stand for functions that have no module in some of the families.
_CHAINS = {
    r"resnet|resnext|wide_resnet": "conv1 bn1 relu maxpool layer1 layer2 layer3 layer4 avgpool flatten fc",
    r"alexnet|vgg": "features.* avgpool flatten classifier.*",
    r"googlenet": "transform_input conv1 maxpool1 conv2 conv3 maxpool2 inception3a inception3b maxpool3 inception4a "
    "inception4b inception4c inception4d inception4e maxpool4 inception5a inception5b avgpool flatten dropout fc",
    r"inception_v3": "transform_input Conv2d_1a_3x3 Conv2d_2a_3x3 Conv2d_2b_3x3 maxpool1 Conv2d_3b_1x1 Conv2d_4a_3x3 "
    "maxpool2 Mixed_5b Mixed_5c Mixed_5d Mixed_6a Mixed_6b Mixed_6c Mixed_6d Mixed_6e Mixed_7a Mixed_7b Mixed_7c "
    "avgpool dropout flatten fc",
    r"densenet": "features.* relu pool flatten classifier",
    r"mobilenet_v2": "features.* pool flatten classifier.*",
    r"mobilenet_v3|efficientnet": "features.* avgpool flatten classifier.*",
    r"convnext": "features.* avgpool classifier.*",
    r"regnet": "stem trunk_output.* avgpool flatten fc",
    r"squeezenet": "features.* classifier.* flatten",
    r"shufflenet": "conv1 maxpool stage2 stage3 stage4 conv5 mean fc",
    r"mnasnet": "layers.* mean classifier.*",
    r"swin": "features.* norm permute avgpool flatten head",
}

# Auxiliary heads are left out; how these two draw their numbers must be said, or torchvision warns.
_INCEPTION = {"aux_logits": False, "init_weights": True}
_OPTIONS = {"googlenet": _INCEPTION, "inception_v3": _INCEPTION}


class _Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean([2, 3])


def _transform_input() -> PerChannel:
    """From ImageNet's normalisation to (x - 0.5) / 0.5, which Inception's published weights were learned with."""
    return PerChannel([s / 0.5 for s in IMAGENET_STD], [(m - 0.5) / 0.5 for m in IMAGENET_MEAN])


_FUNCTIONS = {
    "normalize": Normalize,
    "transform_input": _transform_input,
    "relu": lambda: nn.ReLU(inplace=True),
    "pool": lambda: nn.AdaptiveAvgPool2d(1),
    "mean": _Mean,
    "flatten": lambda: nn.Flatten(1),
}


def build_net(name: str, num_classes: int, image_size: int | None = None) -> StagedNet:
    """A randomly initialised net with a head of `num_classes` outputs, for images of `image_size` pixels or more.

    Raises:
        UserError: for a name that is none of `names()`, or images that are too small for it.

    """
    if name not in names():
        raise UserError(f"model.name={name!r} is unknown; the choices are {', '.join(names())}.")
    if image_size and image_size < smallest_image(name):
        raise UserError(
            f"data.image_size={image_size} is too small for {name}, which needs at least {smallest_image(name)} pixels."
        )
    source = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **_OPTIONS.get(name, {}))
    chain = ["normalize"]
    for step in _chain(name).split():
        parent = step.removesuffix(".*")
        children = [child for child, _ in getattr(source, parent).named_children()] if step != parent else []
        chain += [f"{parent}.{child}" for child in children] or [parent]
    modules = OrderedDict((child, module) for child, module in source.named_children() if module is not None)
    for step in chain:
        if "." not in step and step not in modules:
            modules[step] = _FUNCTIONS[step]()
    return StagedNet(modules, _stages(name, modules, chain), config={"name": name, "num_classes": num_classes})


def names() -> list[str]:
    """Every model of torchvision's that can be built here."""
    return [name for name in torchvision.models.list_models(torchvision.models) if _chain(name)]


def smallest_image(name: str) -> int:
    """The side, in pixels, of the smallest image that leaves something after the last pooling."""
    return max(torchvision.models.get_model_weights(name).DEFAULT.meta.get("min_size", (1, 1)))


def _chain(name: str) -> str | None:
    return next((chain for family, chain in _CHAINS.items() if re.match(family, name)), None)


def _stages(name: str, modules: OrderedDict[str, nn.Module], chain: list[str]) -> dict[str, list[str]]:
    """Groups `chain`: a module with weights begins a stage; a normalisation or a function belongs to the one before.

    Dropout goes with the stage after it, whose input it disturbs: a frozen stage gives the same features each time.
    """
    tree, stages, waiting = nn.ModuleDict(modules), {}, []
    title = _titles(name, tree, chain)
    for path in chain:
        module = tree.get_submodule(path)
        if isinstance(module, nn.Dropout):
            waiting.append(path)
        elif not stages or (not isinstance(module, NORMS) and any(True for _ in module.parameters())):
            stages.setdefault(title[path], []).extend([*waiting, path])
            waiting = []
        else:
            stages[next(reversed(stages))].append(path)
    return stages


def _titles(name: str, tree: nn.ModuleDict, chain: list[str]) -> dict[str, str]:
    """A stage name for each path: the path's own last word, or what the literature calls it where that is a number."""
    plain = {path: path if path.rpartition(".")[2].isdigit() else path.rpartition(".")[2] for path in chain}
    if not re.match("alexnet|vgg", name):
        return plain
    block, layer = 1, 6
    for path in chain:
        module = tree.get_submodule(path)
        if path.startswith("features."):
            plain[path] = f"{'conv' if name == 'alexnet' else 'block'}{block}"
            block += isinstance(module, nn.ReLU if name == "alexnet" else nn.MaxPool2d)
        elif isinstance(module, nn.Linear):
            plain[path], layer = f"fc{layer}", layer + 1
    return plain
