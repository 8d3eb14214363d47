"""Select the trainable parameters of a network by the option `train` of a strategy's phase."""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from thaw.models.staged import NORMS, StagedNet, within

_SHARE = re.compile(r"(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)%")


class SelectionError(ValueError):
    """Wrong value in a phase's option `train`. The caller adds the name of the strategy to the message."""


def selected(train: Sequence[str] | str, net: StagedNet) -> set[str]:
    """Return the names of the trainable parameters, which always include the head's.

    Each entry of `train` is `all`, `head`, `norm` (every normalisation layer), or `first` or `last` (the backbone's
    first or last stage). It can also be a range of the depth such as `25-75%`, the name of a stage, module or
    parameter, or a pattern of parameter names such as `*.bias`.

    Raises:
        SelectionError: if an entry selects nothing, or selects only parameters that another entry also selects.

    """
    entries = [train] if isinstance(train, str) else list(train)
    chosen = {entry: _parameters(entry, net) for entry in entries}
    if len(chosen) < len(entries):
        raise SelectionError(f"{next(entry for entry in entries if entries.count(entry) > 1)!r} twice")
    for entry, names in chosen.items():
        if not names:
            raise SelectionError(f"{entry!r}, which {net.config['name']} does not have; {_choices(net)}")
        for other in chosen.keys() - {entry, "head"}:
            if entry != "head" and names <= chosen[other]:
                raise SelectionError(f"{entry!r} and {other!r}, which overlap: the first is part of the second")
    return set().union(net.stage_parameters(net.head_name), *chosen.values())


def _parameters(entry: str, net: StagedNet) -> set[str]:
    everything = [name for name, _ in net.named_parameters()]
    if entry == "all":
        return set(everything)
    if entry == "norm":
        norms = [name for name, module in net.named_modules() if isinstance(module, NORMS)]
        return {key for key in everything if key.rpartition(".")[0] in norms}
    stages = _stages(entry, net)
    if stages:
        return {key for stage in stages for key in net.stage_parameters(stage)}
    own = {key: key.removeprefix(net.prefix) for key in everything}
    return {key for key, name in own.items() if within(name, [entry]) or fnmatchcase(name, entry)}


def _stages(entry: str, net: StagedNet) -> list[str]:
    backbone = [name for name in net.learned_stages if name != net.head_name]
    share = _SHARE.fullmatch(entry)
    if share:
        low, high = (float(bound) / 100 for bound in share.groups())
        return _stages_between(low, high, net, backbone) if low < high <= 1 else []
    short = {"head": [net.head_name], "first": backbone[:1], "last": backbone[-1:]}
    return short.get(entry, [entry] if entry in net.learned_stages else [])


def _stages_between(low: float, high: float, net: StagedNet, backbone: list[str]) -> list[str]:
    """Return the stages whose middle lies between the depths `low` and `high`.

    If there is none, return the stage halfway between these depths. Depth counts layers with weights, from 0 at the
    input to 1 at the end of the backbone.
    """
    layers = [sum(net.get_parameter(key).ndim > 1 for key in net.stage_parameters(name)) for name in backbone]
    ends = [sum(layers[: number + 1]) / sum(layers) for number in range(len(layers))]
    middles = [end - count / sum(layers) / 2 for end, count in zip(ends, layers, strict=True)]
    inside = [name for name, middle in zip(backbone, middles, strict=True) if low <= middle < high]
    return inside or [next(name for name, end in zip(backbone, ends, strict=True) if (low + high) / 2 < end)]


def _choices(net: StagedNet) -> str:
    stages = ", ".join(net.learned_stages)
    modules = (name.removeprefix(net.prefix) for name, _ in net.named_modules())
    part = next((name for name in modules if "." in name), f"{net.head_name}.weight")
    return (
        f"the choices are all, head, first, last, norm, a share of the depth such as 0-25%, the stages {stages}, "
        f"a module such as {part}, or a pattern of parameter names such as *.bias"
    )
