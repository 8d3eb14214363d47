"""Warnings before training about options that do not work as configured."""

import logging
import math
import warnings
from collections.abc import Collection, Iterator, Sequence

import torch
from lightning import Trainer
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from thaw.strategy.phases import Phase
from thaw.training.classifier import ImageClassifier
from thaw.training.schedules import PerStep

log = logging.getLogger(__name__)

_NAMES = {"16": "16-mixed", "bf16": "bf16-mixed", "32": "32-true", "64": "64-true"}  # precision -> Lightning's name
_MOST_EPOCHS = 10_000  # largest number of epochs for which a scheduler is tried
_STEPS = 1000  # steps for which a per-batch scheduler is tried
_NOTHING = 1e-3  # share of the highest rate below which almost nothing is learned


@rank_zero_only
def remark(cfg: DictConfig, trainer: Trainer, classifier: ImageClassifier, phases: Sequence[Phase]) -> None:
    """Log which options of `cfg.trainer` and which rates of `phases` do not work as configured."""
    from hydra.core.hydra_config import HydraConfig

    found = [precision_remark(cfg.trainer.precision, trainer.precision)]
    found += [epochs_remark(cfg.trainer.max_epochs, phases, HydraConfig.get().overrides.task)]
    found += rate_remarks(classifier, phases)
    for sentence in filter(None, dict.fromkeys(found)):
        log.warning(f"note: {sentence}")


def precision_remark(asked: str | int, used: str) -> str | None:
    asked = str(asked)
    if asked == "auto" or _NAMES.get(asked, asked) == used:
        return None
    return f"trainer.precision={asked} is not supported on this device; the run computes in {used}"


def epochs_remark(asked: int, phases: Sequence[Phase], overrides: Collection[str]) -> str | None:
    """Return a warning if the command line sets the number of epochs but all phases have a solver, else None."""
    total = phases[-1].last
    overridden = any(override.lstrip("+").startswith("trainer.max_epochs=") for override in overrides)
    if not overridden or asked == total or not all(phase.solver for phase in phases):
        return None
    epochs = "one epoch measures it" if total == 1 else f"{total} epochs measure it"
    return f"trainer.max_epochs={asked} has no effect: a solver computes the head, and {epochs}"


def rate_remarks(classifier: ImageClassifier, phases: Sequence[Phase]) -> Iterator[str]:
    """Yield a warning for each phase whose scheduler ignores the strategy's rates, or has tiny rates in most epochs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns about schedulers that step without their optimizer
        for phase in phases:
            if not phase.solver:
                yield from _rate_remarks(classifier, phase)


def _rate_remarks(classifier: ImageClassifier, phase: Phase) -> Iterator[str]:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": group.lr} for group in phase.groups]
    optimizer = (phase.optimizer or classifier.recipe.optimizer)(groups)
    head, wanted = optimizer.param_groups[-1], phase.groups[-1].lr
    build = phase.scheduler or classifier.recipe.scheduler
    scheduler = build(optimizer, _STEPS) if isinstance(build, PerStep) else build(optimizer)
    own = head.get("max_lr", head.get("initial_lr", wanted))
    if not math.isclose(own, wanted):
        yield (
            f"{type(scheduler).__name__} sets its own learning rates: the head trains at {own:.3g}, not at the "
            f"strategy's {wanted:.3g} (strategy.lr); use scheduler=cosine to keep the strategy's rates"
        )
    if isinstance(build, PerStep) or isinstance(scheduler, ReduceLROnPlateau):
        return
    rates, epochs = [], phase.last - phase.first
    for _ in range(min(epochs, _MOST_EPOCHS)):
        rates.append(head["lr"])
        scheduler.step()
    low = sum(rate < _NOTHING * max(rates) for rate in rates)
    if low > len(rates) / 2:
        slower = f"scheduler.step_size={math.ceil(epochs / 3)} or " if hasattr(scheduler, "step_size") else ""
        yield (
            f"in {low} of {epochs} epochs, the learning rate is below a thousandth of the highest, so almost nothing "
            f"is learned; to decay over all epochs, use {slower}scheduler=cosine"
        )
