"""Weights averaged over the steps of a phase."""

import torch
from lightning.pytorch.callbacks import WeightAveraging

from thaw.errors import UserError


class ExponentialAverage(WeightAveraging):
    """Validates and keeps an average over about `1 / (1 - decay)` steps.

    Lightning's own exponential average computes `decay * a + (1 - decay) * b`, which rounds where `a` and `b` are the
    same frozen tensor.
    """

    def __init__(self, decay: float):
        if not 0 <= decay <= 1:
            raise UserError(f"callbacks.ema.decay={decay!r} must be a number from 0 to 1.")

        def average(old: torch.Tensor, new: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
            return old + (1 - decay) * (new - old)

        super().__init__(avg_fn=average)

    def setup(self, trainer, classifier, stage: str) -> None:
        super().setup(trainer, classifier, stage)
        for checkpoint in trainer.checkpoint_callbacks:  # one of weights alone is saved without asking callbacks
            checkpoint.save_weights_only = False
