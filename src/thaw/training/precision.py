"""Choose the precision that trains fastest on a CPU. The choice depends only on the configuration."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from thaw.models.staged import StagedNet
from thaw.strategy.phases import Phase

# If depthwise convolutions wider than 3 x 3 take more than this share of the trainable layers' operations, bfloat16
# trains slower than float32 on a CPU: for the gradient of these weights, oneDNN computes blocks of 16 channels and
# discards 15 of them. Measured networks have shares of at most 0.024 or at least 0.043 (docs/speed.md).
_MOST_WIDE = 0.03

Layer = nn.Conv2d | nn.Linear


def bf16_suits(net: StagedNet, phases: Sequence[Phase], image_size: int) -> bool:
    """Return whether a CPU with bfloat16 instructions trains `phases` faster in bfloat16 than in float32.

    Return False if all phases have a solver: a solution with seven digits needs features with more than bfloat16's
    three digits, and features are computed only once.
    """
    if all(phase.solver for phase in phases):
        return False
    trainable = set().union(*(phase.parameters for phase in phases))
    layers = {
        path: module
        for path, module in net.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and f"{path}.weight" in trainable
    }
    if not any(map(_is_wide_depthwise, layers.values())):
        return True
    operations = _operations(net, layers, image_size)
    wide = sum(count for path, count in operations.items() if _is_wide_depthwise(layers[path]))
    return wide < _MOST_WIDE * sum(operations.values())


def _is_wide_depthwise(layer: Layer) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1 and max(layer.kernel_size) > 3


def _operations(net: StagedNet, layers: dict[str, Layer], image_size: int) -> dict[str, int]:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net.eval()(torch.zeros(1, 3, image_size, image_size, dtype=torch.uint8))
    net.train()
    counts = counter.get_flop_counts()
    return {path: sum(counts.get(f"{type(net).__name__}.{path}", {}).values()) for path in layers}
