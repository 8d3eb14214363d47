"""torchvision's classification nets, and Caffe's ResNets, as staged nets with torchvision's state-dict keys."""

import re
from operator import attrgetter

import torch
import torchvision
from torch import nn

from thaw.errors import UserError
from thaw.models.families import timm_nets
from thaw.models.families.caffe import CAFFE_RESNETS, SMALLEST_IMAGE, caffe_resnet
from thaw.models.families.lite import ARCHITECTURES
from thaw.models.staged import IMAGENET_MEAN, IMAGENET_STD, NORMS, Normalize, Part, PerChannel, StagedNet

# What each family applies, one module after the other, as its forward method does; `x.*` are the children of `x`.
# flatten, mean, relu, pool, tokens and class_output stand for functions that have no module in some of the families.
_CHAINS = {
    r"(caffe_)?resnet|resnext|wide_resnet": "conv1 bn1 relu maxpool layer1 layer2 layer3 layer4 avgpool flatten fc",
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

# Auxiliary heads are left out; how these two draw their numbers must be said, or torchvision warns.
_INCEPTION = {"aux_logits": False, "init_weights": True}
_OPTIONS = {"googlenet": _INCEPTION, "inception_v3": _INCEPTION}


# After four halvings of its patches one is left; torchvision names the size at which it was trained instead.
_SMALLEST_SWIN = 32


class _Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean([2, 3])


class _Tokens(nn.Module):
    """Features (N, D, h, w) -> tokens (N, 1 + h * w, D), the class token first, each with its position added."""

    def forward(self, x: torch.Tensor, class_token: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        return torch.cat([class_token.expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], 1) + positions


class _ClassOutput(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, 0]


def _normalize(name: str) -> Normalize:
    """As the published weights expect it, which is ImageNet's in all nets but efficientnet_v2_l."""
    published = torchvision.models.get_model_weights(name).DEFAULT.transforms.keywords
    return Normalize(published.get("mean", IMAGENET_MEAN), published.get("std", IMAGENET_STD))


def _transform_input() -> PerChannel:
    """From ImageNet's normalisation to (x - 0.5) / 0.5, which Inception's published weights were learned with."""
    return PerChannel([s / 0.5 for s in IMAGENET_STD], [(m - 0.5) / 0.5 for m in IMAGENET_MEAN])


_FUNCTIONS = {
    "transform_input": _transform_input,
    "relu": lambda: nn.ReLU(inplace=True),
    "pool": lambda: nn.AdaptiveAvgPool2d(1),
    "mean": _Mean,
    "flatten": lambda: nn.Flatten(1),
    "tokens": _Tokens,
    "class_output": _ClassOutput,
}


def build_net(name: str, num_classes: int, image_size: int | None = None) -> StagedNet:
    """A randomly initialised net with a head of `num_classes` outputs, for images of `image_size` pixels.

    Most nets take larger images, too; those of one size, `StagedNet.check_sizes`, are made for 224 pixels if none are
    given.

    Raises:
        UserError: for a name that is none of `names()`, or images that do not fit it.

    """
    if timm_nets.is_timms(name):
        build = timm_nets.build_lite_net if name in ARCHITECTURES else timm_nets.build_timm_net
        return build(name, num_classes, image_size)
    check_name(name)
    config = {"name": name, "num_classes": num_classes}
    if _size_unit(name):
        config["image_size"] = image_size or 224
    _check_size(name, config.get("image_size", image_size))
    source = _source(**config)
    own = {step for step, _ in (*source.named_children(), *source.named_parameters(recurse=False))}
    chain = _steps(name, source)
    for step in (step for step in chain if "." not in step and step not in own):
        setattr(source, step, _normalize(name) if step == "normalize" else _FUNCTIONS[step]())
    parts = dict((*source.named_parameters(recurse=False), *source.named_children()))
    return StagedNet(parts, _stages(name, source, chain), config)


def check_name(name: str) -> None:
    """Raises: UserError: with the choices, if there is no such model."""
    if name not in names():
        raise UserError(f"model.name={name!r} is unknown; the choices are {', '.join(names())}.")


def names() -> list[str]:
    """Every model of torchvision's, Caffe's ResNets and EfficientNet-Lite."""
    listed = torchvision.models.list_models(torchvision.models)
    return [*(name for name in (*listed, *CAFFE_RESNETS) if _chain(name)), *ARCHITECTURES]


def smallest_image(name: str, least: int = 1) -> int:
    """The side, in pixels, of the smallest image of at least `least` that fits and survives every pooling."""
    if timm_nets.is_timms(name):
        return timm_nets.smallest_image(name, least)
    unit = _size_unit(name)
    if unit:
        return -(-least // unit) * unit
    if name in CAFFE_RESNETS:
        return max(least, SMALLEST_IMAGE)
    if name.startswith("swin"):
        return max(least, _SMALLEST_SWIN)
    return max(least, *torchvision.models.get_model_weights(name).DEFAULT.meta.get("min_size", (1, 1)))


def _size_unit(name: str) -> int | None:
    """What the side must be a multiple of, in families whose nets are made for images of one size.

    That is ViT's patch, or MaxViT's window after five halvings. Swin pads its windows and takes any size.
    """
    patch = re.fullmatch(r"vit_._(\d+)", name)
    return int(patch[1]) if patch else 7 * 2**5 if name.startswith("maxvit") else None


def _check_size(name: str, size: int | None) -> None:
    unit, least = _size_unit(name), smallest_image(name)
    if size and size < least:
        raise UserError(f"data.image_size={size} is too small for {name}, which needs at least {least} pixels.")
    if unit and size % unit:
        below = size - size % unit
        raise UserError(
            f"data.image_size={size} does not fit {name}, which needs a multiple of {unit} pixels, such as {below} or "
            f"{below + unit}."
        )


def _source(name: str, num_classes: int, image_size: int | None = None) -> nn.Module:
    if name in CAFFE_RESNETS:
        return caffe_resnet(name, num_classes)
    options = dict(_OPTIONS.get(name, {}))
    if image_size:
        options |= {"input_size": (image_size,) * 2} if name.startswith("maxvit") else {"image_size": image_size}
    return torchvision.models.get_model(name, weights=None, num_classes=num_classes, **options)


def _steps(name: str, source: nn.Module) -> list[str]:
    chain = ["normalize"]
    for step in _chain(name).split():
        parent = step.removesuffix(".*")
        children = [child for child, _ in source.get_submodule(parent).named_children()] if step != parent else []
        chain += [f"{parent}.{child}" for child in children] or [parent]
    return chain


def _chain(name: str) -> str | None:
    return next((chain for family, chain in _CHAINS.items() if re.match(family, name)), None)


def _stages(name: str, source: nn.Module, chain: list[str]) -> dict[str, list[str]]:
    """Groups `chain`: a module with weights begins a stage; what else there is belongs to the stage before.

    A normalisation is no beginning, nor is a parameter of its own.

    Dropout goes with the stage after it, whose input it disturbs: a frozen stage gives the same features each time.
    """
    stages, waiting = {}, []
    title = _titles(name, source, chain)
    for path in chain:
        part = attrgetter(path)(source)
        if isinstance(part, nn.Dropout):
            waiting.append(path)
        elif not stages or _begins(part):
            stages.setdefault(title[path], []).extend([*waiting, path])
            waiting = []
        else:
            stages[next(reversed(stages))].append(path)
    return stages


def _begins(part: Part) -> bool:
    return isinstance(part, nn.Module) and not isinstance(part, NORMS) and any(True for _ in part.parameters())


def _titles(name: str, source: nn.Module, chain: list[str]) -> dict[str, str]:
    """A stage name for each path: the path's own last word, or what the literature calls it where that is a number."""
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
