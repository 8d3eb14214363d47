"""Which parts of one of timm's nets belong together."""

import re
from collections.abc import Callable, Iterator
from itertools import takewhile

from torch import nn

from thaw.errors import UserError
from thaw.models.staged import Part, within


def timm_stages(model: nn.Module, prefix: str) -> dict[str, list[str]]:
    """Return the paths of the modules and parameters of each of timm's groups, and of the head.

    `model` lies at `prefix`, which ends in a dot. A module without parameters goes with the stage before it, dropout
    with the one after it.

    Raises:
        UserError: if timm does not group the layers of this net, or it has no classifier.

    """
    groups = _groups(model)
    stages, waiting = {name: [] for name in groups}, []
    current = next(iter(stages))
    for path, part, stage in _whole(model, prefix, {prefix + key: name for name in groups for key in groups[name]}):
        if isinstance(part, nn.Dropout):
            waiting.append(path)
        else:
            current = stage or current
            stages[current] += [*waiting, path]
            waiting = []
    return stages


def _groups(model: nn.Module) -> dict[str, list[str]]:
    """Return the names of the parameters of each stage, by timm's own grouping; the classifier comes last."""
    from timm.models import group_parameters

    try:
        head, matcher = _head_paths(model), model.group_matcher(coarse=True)
    except (AttributeError, AssertionError):
        head = []
    if not any(within(key, head) for key, _ in model.named_parameters()):
        name = model.pretrained_cfg["architecture"]
        raise UserError(f"model.name={name!r} has no classifier, or no groups of layers in timm; choose another net.")
    groups = {}
    for keys in group_parameters(model, matcher).values():
        keys = [key for key in keys if not within(key, head)]
        if not groups or any(model.get_parameter(key).ndim > 1 for key in keys):
            groups.setdefault(_title(matcher, keys) if groups else "stem", []).extend(keys)
        else:  # a normalisation belongs to what it normalises
            groups[next(reversed(groups))] += keys
    return {**groups, head[0]: [key for key, _ in model.named_parameters() if within(key, head)]}


def _head_paths(model: nn.Module) -> list[str]:
    """Return the path of the classifier, or of both classifiers in a distilled net."""
    heads = model.get_classifier()
    heads = heads if isinstance(heads, tuple) else (heads,)
    return [path for path, module in model.named_modules() if any(module is head for head in heads)]


def _title(matcher: dict | Callable, keys: list[str]) -> str:
    """Return what timm's numbering matched, such as blocks.3; without a number, the path that all keys share."""
    specs = matcher.values() if isinstance(matcher, dict) else ()
    for spec in specs:
        for pattern in [spec] if isinstance(spec, str) else [pattern for pattern, _ in spec or ()]:
            match = re.match(pattern, keys[0])
            if match and match.groups():
                return match[0].rstrip(".")
    words = zip(*(key.split(".")[:-1] for key in keys), strict=False)
    return ".".join(word[0] for word in takewhile(lambda word: len(set(word)) == 1, words)) or keys[0].split(".")[0]


def _whole(module: nn.Module, path: str, stage_of: dict[str, str]) -> Iterator[tuple[str, Part, str | None]]:
    """Yield path, part and stage, None for any, of the largest modules in one stage and the parameters beside them."""
    path = path.removesuffix(".")
    inside = {stage for key, stage in stage_of.items() if within(key, [path])}
    if len(inside) < 2:
        yield path, module, next(iter(inside), None)
        return
    for key, parameter in module.named_parameters(recurse=False):
        yield f"{path}.{key}", parameter, stage_of[f"{path}.{key}"]
    for child, part in module.named_children():
        yield from _whole(part, f"{path}.{child}", stage_of)
