"""What of a net learns and what is frozen: no gradient, no statistics, no chance."""

from collections.abc import Collection

from torch import nn

from thaw.models.staged import StagedNet


def set_trainable(net: StagedNet, names: Collection[str]) -> None:
    """Let just the parameters of these names learn."""
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name in names)


def set_training_modes(net: StagedNet, keep_statistics: bool = False) -> None:
    """Set training mode for what learns, `eval` for the rest.

    A module with parameters of its own learns if all of them do, so that a batch-norm of which any part is frozen
    keeps and applies its stored statistics. One that holds such modules learns if anything in it does. One without any
    parameters, such as dropout, does as what it lies in. With `keep_statistics` every batch-norm applies its stored
    statistics, also where its weights learn.
    """
    for name in net.stages:
        stage_learns = any(net.get_parameter(key).requires_grad for key in net.stage_parameters(name))
        for module in net.stage_modules(name):
            _set_mode(module, stage_learns)
    for module in net.modules() if keep_statistics else ():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.training = False


def frozen_tensors(net: StagedNet) -> list[str]:
    """The names of the parameters and buffers that training must leave as they are."""
    buffers = [
        f"{path}.{name}"
        for path, module in net.named_modules()
        if not module.training
        for name, _ in module.named_buffers(recurse=False)
    ]
    return buffers + [name for name, parameter in net.named_parameters() if not parameter.requires_grad]


def _set_mode(module: nn.Module, around_learns: bool) -> None:
    own, inside = list(module.parameters(recurse=False)), list(module.parameters())
    learns = around_learns
    if own:
        learns = all(parameter.requires_grad for parameter in own)
    elif inside:
        learns = any(parameter.requires_grad for parameter in inside)
    module.training = learns
    for child in module.children():
        _set_mode(child, learns)
