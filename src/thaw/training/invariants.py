"""Invariants of every run: frozen tensors never change, and random numbers depend only on the seed and the step."""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from lightning import Callback
from torch import nn

from thaw.errors import FrozenTensorError
from thaw.strategy.freezing import frozen_tensors


class FrozenCheck(Callback):
    """Callback that compares every frozen tensor, bit for bit, before and after a phase.

    Raises:
        FrozenTensorError: if a frozen tensor has changed; the message names it.

    """

    def on_train_start(self, trainer, pl_module: Any) -> None:
        self._before = digests(pl_module.net, frozen_tensors(pl_module.net))

    def on_train_end(self, trainer, pl_module: Any) -> None:
        after = digests(pl_module.net, self._before)
        changed = [name for name in after if after[name] != self._before[name]]
        if changed:
            first, last = pl_module.phase.first + 1, pl_module.phase.last
            raise FrozenTensorError(f"the frozen tensor {changed[0]} changed between the epochs {first} and {last}.")


class SeededSteps(Callback):
    """Callback that seeds every step, so that a resumed run draws the same random numbers as an uninterrupted run."""

    def on_train_batch_start(self, trainer: Any, pl_module, batch, batch_idx: int) -> None:
        seed_step(trainer, batch_idx)


def seed_step(trainer: Any, number: int) -> None:
    """Seed batch `number` of the present epoch, counted from 0."""
    root = np.random.SeedSequence((trainer.datamodule.seed, trainer.current_epoch, number, trainer.global_rank))
    _seed(int(root.generate_state(1)[0]), trainer.strategy.root_device)


def _seed(seed: int, device: torch.device) -> None:
    """Seed the CPU and `device`; `torch.manual_seed` would take 2 ms, because it prepares unused devices."""
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        getattr(torch, device.type).manual_seed(seed)


def digests(net: nn.Module, names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of each named parameter or buffer."""
    tensors = dict(net.named_parameters()) | dict(net.named_buffers())
    return {name: _digest(tensors[name]) for name in names}


def _digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data).hexdigest()
