"""Learning-rate schedules that are stepped after every batch instead of every epoch."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, OneCycleLR, SequentialLR

from thaw.errors import UserError


class PerStep(ABC):
    """Builds the scheduler of a phase that has `steps` optimizer steps."""

    counts_steps = True  # the mark by which a configuration's check knows such a class without importing this module

    @abstractmethod
    def __call__(self, optimizer: Optimizer, steps: int) -> LRScheduler: ...


def advance(scheduler: LRScheduler, optimizer: Optimizer, longer: LRScheduler, other: Optimizer) -> None:
    """Put `scheduler` and its `optimizer` where `longer`, a new one of `other`, is after as many steps."""
    for _ in range(scheduler.last_epoch):
        other.step()  # which has no gradients
        longer.step()
    scheduler.load_state_dict(longer.state_dict())
    for group, wanted in zip(optimizer.param_groups, other.param_groups, strict=True):
        group.update({key: wanted[key] for key in ("lr", "initial_lr", "momentum", "betas") if key in wanted})


@dataclass(frozen=True)
class WarmupCosine(PerStep):
    """Rates rise in a line for the share `warmup` of the steps, then fall to 0 along half a cosine.

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
    """Rates rise to those of the optimizer's groups and fall to almost nothing (Smith and Topin 2018)."""

    def __call__(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        return OneCycleLR(optimizer, max_lr=[group["lr"] for group in optimizer.param_groups], total_steps=steps)
