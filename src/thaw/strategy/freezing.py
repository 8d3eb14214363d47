"""Freezing: a frozen parameter gets no gradient; a frozen module keeps batch-norm statistics and has no dropout."""

from collections.abc import Collection

from torch import nn

from thaw.models.staged import StagedNet


def set_trainable(net: StagedNet, names: Collection[str]) -> None:
    """Make the parameters called `names` trainable and freeze all others."""
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name in names)


def set_training_modes(net: StagedNet, keep_statistics: bool = False) -> None:
    """Set trainable modules to training mode and all other modules to evaluation mode.

    A module with its own parameters is trainable if all these parameters are trainable. A batch norm with a frozen
    parameter therefore applies its stored statistics. A container is trainable if any parameter in it is trainable. A
    module without parameters, such as dropout, gets the mode of its container. With `keep_statistics`, every batch norm
    applies its stored statistics, even if its weights are trainable.
    """
    for name in net.stages:
        trainable = any(net.get_parameter(key).requires_grad for key in net.stage_parameters(name))
        for module in net.stage_modules(name):
            _set_mode(module, trainable)
    for module in net.modules() if keep_statistics else ():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.training = False


def frozen_tensors(net: StagedNet) -> list[str]:
    """Return the names of the parameters and buffers that training must not change."""
    buffers = [
        f"{path}.{name}"
        for path, module in net.named_modules()
        if not module.training
        for name, _ in module.named_buffers(recurse=False)
    ]
    return buffers + [name for name, parameter in net.named_parameters() if not parameter.requires_grad]


def _set_mode(module: nn.Module, container_trainable: bool) -> None:
    own, inside = list(module.parameters(recurse=False)), list(module.parameters())
    trainable = container_trainable
    if own:
        trainable = all(parameter.requires_grad for parameter in own)
    elif inside:
        trainable = any(parameter.requires_grad for parameter in inside)
    module.training = trainable
    for child in module.children():
        _set_mode(child, trainable)
