"""The number format in which a run learns fastest on this machine; it depends on the configuration alone."""

from collections.abc import Sequence

import torch
from torch import nn

from thaw.models.staged import StagedNet
from thaw.strategy.phases import Phase

# Share of the learning layers' operations in depthwise convolutions wider than 3 x 3, from which on bfloat16 trains a
# CPU slower than float32. oneDNN has no depthwise kernel for their weights' gradient and computes it in blocks of 16
# channels, of which 15 are thrown away. Measured nets lie at 0.024 or below, and at 0.043 or above (docs/speed.md).
_MOST_WIDE = 0.03


def bf16_suits(net: StagedNet, phases: Sequence[Phase], image_size: int) -> bool:
    """Whether a CPU with bfloat16 instructions should use them for `phases`.

    It should where it trains what learns faster than in float32. What is solved to seven digits is not worth building
    on features of three, which take one pass over the images.
    """
    if all(phase.solver for phase in phases):
        return False
    learned = set().union(*(phase.parameters for phase in phases))
    layers = {
        path: module
        for path, module in net.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and f"{path}.weight" in learned
    }
    if not any(map(_is_wide_depthwise, layers.values())):
        return True
    operations = _operations(net, layers, image_size)
    wide = sum(count for path, count in operations.items() if _is_wide_depthwise(layers[path]))
    return wide < _MOST_WIDE * sum(operations.values())


def _is_wide_depthwise(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1 and max(layer.kernel_size) > 3


def _operations(net: StagedNet, layers: dict[str, nn.Module], image_size: int) -> dict[str, int]:
    """Multiplications of each layer for one image."""
    counts = dict.fromkeys(layers, 0)

    def counter(path: str):
        def count(layer: nn.Module, given: tuple, output: torch.Tensor) -> None:
            counts[path] += output.numel() * layer.weight[0].numel()

        return count

    hooks = [layer.register_forward_hook(counter(path)) for path, layer in layers.items()]
    modes = [(module, module.training) for module in net.modules()]
    with torch.no_grad():
        net.eval()(torch.zeros(1, 3, image_size, image_size, dtype=torch.uint8))
    for module, mode in modes:
        module.training = mode
    for hook in hooks:
        hook.remove()
    return counts
