"""Divide timm's networks into stages by timm's own groups of layers."""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import takewhile
from typing import Any

from torch import nn

from thaw.errors import UserError
from thaw.models.staged import Part, within

TimmModule = Any  # an nn.Module with timm's methods, which no base class declares


def timm_stages(model: nn.Module, prefix: str) -> dict[str, list[str]]:
    """Return the paths of each stage's modules and parameters. Stages are timm's groups of layers, then the head.

    `prefix` is the path of `model`, with a dot at its end. Dropout joins the stage after it. Other modules without
    parameters join the stage before them.

    Raises:
        UserError: if timm does not group the layers of this network, or the network has no classifier.

    """
    groups = _groups(model)
    stages, waiting = {name: [] for name in groups}, []
    current = next(iter(stages))
    stage_of = {prefix + key: name for name in groups for key in groups[name]}
    for path, part, stage in _largest_parts(model, prefix, stage_of):
        if isinstance(part, nn.Dropout):
            waiting.append(path)
        else:
            current = stage or current
            stages[current] += [*waiting, path]
            waiting = []
    return stages


def _groups(model: TimmModule) -> dict[str, list[str]]:
    """Return each stage's parameter names, with the classifier as the last stage."""
    from timm.models import group_parameters

    head, matcher = [], None
    with suppress(AttributeError, AssertionError):
        head, matcher = _head_paths(model), model.group_matcher(coarse=True)
    if not any(within(key, head) for key, _ in model.named_parameters()):
        name = model.pretrained_cfg["architecture"]
        raise UserError(f"model.name={name!r} has no classifier or no layer groups in timm; choose another network.")
    groups = {}
    for keys in group_parameters(model, matcher).values():
        keys = [key for key in keys if not within(key, head)]
        if not groups or any(model.get_parameter(key).ndim > 1 for key in keys):
            groups.setdefault(_stage_name(matcher, keys) if groups else "stem", []).extend(keys)
        else:  # a normalisation layer joins the stage of the layer before it
            groups[next(reversed(groups))] += keys
    return {**groups, head[0]: [key for key, _ in model.named_parameters() if within(key, head)]}


def _head_paths(model: TimmModule) -> list[str]:
    heads = model.get_classifier()
    heads = heads if isinstance(heads, tuple) else (heads,)  # distilled networks have two heads
    return [path for path, module in model.named_modules() if any(module is head for head in heads)]


def _stage_name(matcher: dict | Callable | None, keys: list[str]) -> str:
    """Return the part of a key that timm's pattern matches, such as blocks.3; if none, the keys' common path."""
    specs = matcher.values() if isinstance(matcher, dict) else ()
    for spec in specs:
        for pattern in [spec] if isinstance(spec, str) else [pattern for pattern, _ in spec or ()]:
            match = re.match(pattern, keys[0])
            if match and match.groups():
                return match[0].rstrip(".")
    words = zip(*(key.split(".")[:-1] for key in keys), strict=False)
    return ".".join(word[0] for word in takewhile(lambda word: len(set(word)) == 1, words)) or keys[0].split(".")[0]


def _largest_parts(module: nn.Module, path: str, stage_of: dict[str, str]) -> Iterator[tuple[str, Part, str | None]]:
    """Yield (path, part, stage) of each largest part in one stage; a part without parameters has stage None."""
    path = path.removesuffix(".")
    inside = {stage for key, stage in stage_of.items() if within(key, [path])}
    if len(inside) < 2:
        yield path, module, next(iter(inside), None)
        return
    for key, parameter in module.named_parameters(recurse=False):
        yield f"{path}.{key}", parameter, stage_of[f"{path}.{key}"]
    for child, part in module.named_children():
        yield from _largest_parts(part, f"{path}.{child}", stage_of)
