"""torchvision's classification networks as chains of modules, grouped into stages."""

import re
from operator import attrgetter
from typing import Any

import torch
import torchvision
from torch import nn

from thaw.models.staged import IMAGENET_MEAN, IMAGENET_STD, NORMS, Normalize, Part, PerChannel, StagedNet

# The modules that each architecture's forward method applies, in order; `x.*` means all children of `x`.
# flatten, mean, relu, pool, tokens and class_output are modules for functions that some forward methods call.
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
    r"vit": "conv_proj class_token encoder.pos_embedding tokens encoder.dropout encoder.layers.* encoder.ln "
    "class_output heads.*",
    r"maxvit": "stem blocks.* classifier.*",
}


class _Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean([2, 3])


class _Tokens(nn.Module):
    """Features (N, D, h, w) -> ViT's tokens (N, 1 + h * w, D), class token first, plus position embeddings."""

    def forward(self, x: torch.Tensor, class_token: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        return torch.cat([class_token.expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], 1) + positions


class _ClassOutput(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, 0]


def default_weights(name: str) -> Any:
    """Return torchvision's entry for the best published weights of `name`, with `url`, `transforms` and `meta`."""
    return torchvision.models.get_model_weights(name).DEFAULT  # pyright: ignore[reportAttributeAccessIssue] - all have it


def _normalize(name: str) -> Normalize:
    """Return the normalisation that the published weights need: ImageNet's, except for efficientnet_v2_l."""
    published = default_weights(name).transforms.keywords
    return Normalize(published.get("mean", IMAGENET_MEAN), published.get("std", IMAGENET_STD))


_FUNCTIONS = {
    # converts ImageNet's normalisation to (x - 0.5) / 0.5, which Inception's published weights need
    "transform_input": lambda: PerChannel([s / 0.5 for s in IMAGENET_STD], [(m - 0.5) / 0.5 for m in IMAGENET_MEAN]),
    "relu": lambda: nn.ReLU(inplace=True),
    "pool": lambda: nn.AdaptiveAvgPool2d(1),
    "mean": _Mean,
    "flatten": lambda: nn.Flatten(1),
    "tokens": _Tokens,
    "class_output": _ClassOutput,
}


def chain_of(name: str) -> str | None:
    """Return the modules that torchvision's network `name` applies, separated by spaces; None for unknown networks."""
    return next((chain for pattern, chain in _CHAINS.items() if re.match(pattern, name)), None)


def staged_net(source: nn.Module, name: str, config: dict) -> StagedNet:
    """Divide `source`, torchvision's network `name`, into stages; its forward method's functions become modules."""
    own = {step for step, _ in (*source.named_children(), *source.named_parameters(recurse=False))}
    chain = _steps(name, source)
    for step in (step for step in chain if "." not in step and step not in own):
        setattr(source, step, _normalize(name) if step == "normalize" else _FUNCTIONS[step]())
    parts = dict((*source.named_parameters(recurse=False), *source.named_children()))
    return StagedNet(parts, _stages(name, source, chain), config)


def _steps(name: str, source: nn.Module) -> list[str]:
    modules, chain = chain_of(name), ["normalize"]
    assert modules is not None, name
    for step in modules.split():
        parent = step.removesuffix(".*")
        children = [child for child, _ in source.get_submodule(parent).named_children()] if step != parent else []
        chain += [f"{parent}.{child}" for child in children] or [parent]
    return chain


def _stages(name: str, source: nn.Module, chain: list[str]) -> dict[str, list[str]]:
    """Group the paths in `chain` into stages. Each module with weights, except a normalisation, begins a stage.

    Dropout joins the stage after it, so that a frozen stage always returns the same features. Every other part joins
    the stage before it.
    """
    stages, waiting = {}, []
    title = _titles(name, source, chain)
    for path in chain:
        part = attrgetter(path)(source)
        if isinstance(part, nn.Dropout):
            waiting.append(path)
        elif not stages or _begins_stage(part):
            stages.setdefault(title[path], []).extend([*waiting, path])
            waiting = []
        else:
            stages[next(reversed(stages))].append(path)
    return stages


def _begins_stage(part: Part) -> bool:
    return isinstance(part, nn.Module) and not isinstance(part, NORMS) and any(True for _ in part.parameters())


def _titles(name: str, source: nn.Module, chain: list[str]) -> dict[str, str]:
    """Return a stage name for each path. AlexNet and VGG get the usual names, such as conv5 or fc6, not numbers."""
    plain = {path: path if path.rpartition(".")[2].isdigit() else path.rpartition(".")[2] for path in chain}
    if not re.match("alexnet|vgg", name):
        return plain
    block, layer = 1, 6
    for path in chain:
        module = source.get_submodule(path)
        if path.startswith("features."):
            plain[path] = f"{'conv' if name == 'alexnet' else 'block'}{block}"
            block += isinstance(module, nn.ReLU if name == "alexnet" else nn.MaxPool2d)
        elif isinstance(module, nn.Linear):
            plain[path], layer = f"fc{layer}", layer + 1
    return plain
