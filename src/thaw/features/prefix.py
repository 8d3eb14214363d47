"""The frozen stages at the start of a network as one fast function: images -> features."""

import copy
import functools
import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.flop_counter import FlopCounterMode

from thaw.models.staged import StagedNet, within
from thaw.strategy.phases import Phase

# Largest relative error that folded batch norms may cause in features: the rounding error of each dtype.
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 5e-3}


def frozen_cut(net: StagedNet, phase: Phase) -> str | None:
    """Return the first trainable stage of `phase`; None if no weights come before it or `net` cannot start there."""
    trainable, stages = {group.stage for group in phase.groups}, list(net.stages)
    cut = next(name for name in stages if name in trainable)
    frozen = any(net.stage_parameters(name) for name in stages[: stages.index(cut)])
    return cut if frozen and net.can_be_cut(cut) else None


class FrozenPrefix:
    """The stages of `net` before the stage `cut`, all frozen, on `device` and in the precision of `context()`.

    Batch norms are folded into the convolutions before them if this changes the output only by rounding errors.
    """

    def __init__(self, net: StagedNet, cut: str, device: torch.device, context: Callable[[], AbstractContextManager]):
        self.net = net.to(device)
        self.cut = cut
        self.device = device
        self._context = context
        self._quick: nn.Module | None = None
        self._probes: dict[int, tuple[torch.Tensor, int]] = {}

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features (N, ...) of uint8 images (N, 3, H, W) on the device, in the dtype of the context."""
        self._quick = self._quick or self._build_quick(images[:2])
        return self._run(self._quick, images)

    def probe(self, size: int) -> tuple[torch.Tensor, int]:
        """Return features (1, ...) of a black image with sides of `size` pixels, and the operations to compute them."""
        if size not in self._probes:
            image = torch.zeros(1, 3, size, size, dtype=torch.uint8, device=self.device)
            with FlopCounterMode(display=False) as counter:
                self._probes[size] = self._run(self._own, image), counter.get_total_flops()
        return self._probes[size]

    @functools.cached_property
    def digest(self) -> str:
        """Return a hash of all that determines features except images: weights, constants, layer options and dtype."""
        paths = self.net.paths_before(self.cut)
        tensors = {**dict(self.net.named_parameters()), **dict(self.net.named_buffers())}
        modules = [f"{path} {module!r}" for path, module in self.net.named_modules() if path in paths]
        computed = f"{self.device.type} {self._format()}"
        digest = hashlib.sha256("\n".join([computed, *paths, *modules]).encode())
        for name in sorted(name for name in tensors if within(name, paths)):
            tensor = tensors[name].detach().cpu().contiguous()
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    @functools.cached_property
    def _own(self) -> StagedNet:
        return self.net.until(self.cut)

    def _run(self, module: nn.Module, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), self._context():
            return module(images)

    def _build_quick(self, images: torch.Tensor) -> nn.Module:
        folded = _fold(copy.deepcopy(self._own))
        own, quick = (self._run(module, images).float() for module in (self._own, folded))
        near = (own - quick).norm() <= _TOLERANCE[self._format()] * own.norm()
        return _cast(folded if near else copy.deepcopy(self._own), self._format())

    def _format(self) -> torch.dtype:
        kind = self.device.type
        with self._context():
            return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32


def _fold(module: nn.Module) -> nn.Module:
    """Fold each batch norm into the convolution defined before it. Most networks apply the two in this order.

    timm's batch norms can contain dropout and an activation, which are kept.
    """
    name_before, before = "", None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and isinstance(before, nn.Conv2d) and not child.training:
            setattr(module, name_before, fuse_conv_bn_eval(before.eval(), child))
            setattr(module, name, nn.Sequential(*child.children()))
        _fold(child)
        name_before, before = name, child
    return module


def _cast(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Cast weights once; autocast would cast them again for every batch."""
    for part in module.modules():
        if type(part) in (nn.Conv2d, nn.Linear):
            part.to(dtype)
    return module
