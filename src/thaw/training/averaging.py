"""Exponential average of the weights over the steps of a phase."""

from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.callbacks import WeightAveraging

from thaw.errors import UserError


class ExponentialAverage(WeightAveraging):
    """Callback that averages weights over about `1 / (1 - decay)` steps. The average is validated and saved.

    Lightning's own average, `decay * a + (1 - decay) * b`, changes frozen tensors by rounding errors.
    """

    def __init__(self, decay: float):
        if not 0 <= decay <= 1:
            raise UserError(f"callbacks.ema.decay={decay!r} must be a number from 0 to 1.")

        def average(old: torch.Tensor, new: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
            return old + (1 - decay) * (new - old)

        super().__init__(avg_fn=average)

    def setup(self, trainer: Any, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        for checkpoint in trainer.checkpoint_callbacks:  # otherwise Lightning saves without calling this callback
            checkpoint.save_weights_only = False

    def on_load_checkpoint(self, trainer, pl_module: Any, checkpoint: dict) -> None:
        """If the checkpoint is from an earlier phase, start a new average from the averaged weights."""
        if checkpoint["phase"] != pl_module.phase.number and "averaging_state" in checkpoint:
            counts = {name: torch.zeros_like(count) for name, count in checkpoint["averaging_state"].items()}
            checkpoint.update(current_model_state=checkpoint["state_dict"], averaging_state=counts)
        super().on_load_checkpoint(trainer, pl_module, checkpoint)
