"""Learning-rate schedules that step after every batch, and helpers for schedulers in Lightning."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
)

from thaw.errors import UserError


class PerStep(ABC):
    """Builder of a scheduler that steps after every batch, for a phase of `steps` optimizer steps."""

    counts_steps = True  # lets the check of a configuration recognise subclasses without importing this module

    @abstractmethod
    def __call__(self, optimizer: Optimizer, steps: int) -> LRScheduler: ...


def advance(scheduler: LRScheduler, optimizer: Optimizer, longer: LRScheduler, other: Optimizer) -> None:
    """Give `scheduler` and `optimizer` the state of the new `longer` and `other` after the same number of steps."""
    for _ in range(scheduler.last_epoch):
        other.step()  # changes no weights, since there are no gradients
        longer.step()
    scheduler.load_state_dict(longer.state_dict())
    for group, wanted in zip(optimizer.param_groups, other.param_groups, strict=True):
        group.update({key: wanted[key] for key in ("lr", "initial_lr", "momentum", "betas") if key in wanted})


@dataclass(frozen=True)
class WarmupCosine(PerStep):
    """Learning rates that rise linearly for the share `warmup` of the steps, then fall to 0 along half a cosine.

    Source: Loshchilov and Hutter 2017 (without restarts); Goyal et al. 2017 for the warm-up.
    """

    warmup: float

    def __post_init__(self):
        if not 0 <= self.warmup < 1:
            raise UserError(f"scheduler.warmup={self.warmup!r} must be a share of the steps, from 0 to below 1.")

    def __call__(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        rising = min(round(self.warmup * steps), steps - 1)
        if rising <= 0:
            return CosineAnnealingLR(optimizer, steps)
        start = LinearLR(optimizer, start_factor=1 / (rising + 1), total_iters=rising)
        return SequentialLR(optimizer, [start, CosineAnnealingLR(optimizer, steps - rising)], milestones=[rising])


@dataclass(frozen=True)
class OneCycle(PerStep):
    """Learning rates that rise to each parameter group's rate and then fall to almost 0 (Smith and Topin 2018)."""

    def __call__(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        return OneCycleLR(optimizer, max_lr=[group["lr"] for group in optimizer.param_groups], total_steps=steps)


def by_epoch(scheduler: LRScheduler) -> LRScheduler | dict:
    """Return `scheduler` as Lightning expects it: `ReduceLROnPlateau` comes in a dict with the metric to monitor."""
    if not isinstance(scheduler, ReduceLROnPlateau):
        return scheduler
    return {"scheduler": scheduler, "monitor": "val/loss" if scheduler.mode == "min" else "val/acc"}


class NoStepOptimizer(Optimizer):
    """Optimizer that changes nothing, for a phase whose head has been computed by a solver."""

    def __init__(self, parameters: Sequence[dict]):
        super().__init__(parameters, {"lr": 0.0})

    def step(self, closure: Callable | None = None) -> Any:
        with torch.enable_grad():
            return closure() if closure else None
