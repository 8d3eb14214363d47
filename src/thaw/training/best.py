"""Which epoch is the best: of equal accuracy the one with the lower loss."""

from collections.abc import Mapping

import torch

from thaw.training.checkpoint_io import MovableCheckpoint

_ACC, _LOSS = "val/acc", "val/loss"


def rank(metrics: Mapping[str, float | torch.Tensor]) -> tuple[float, float]:
    """The larger, the better; NaN as a loss is the worst."""
    acc, loss = (float(f"{float(metrics[name]):.7g}") for name in (_ACC, _LOSS))  # the digits that metrics.csv holds
    return acc, -loss if loss == loss else -float("inf")


class BestCheckpoint(MovableCheckpoint):
    """Keeps the epoch with the highest val/acc, and of equal ones that with the lowest val/loss.

    With another `monitor` it keeps what that says, as Lightning does.
    """

    _kept: tuple[float, float] | None = None

    def check_monitor_top_k(self, trainer, current: torch.Tensor | None = None) -> bool:
        if self.monitor != _ACC or current is None or self._kept is None:
            return super().check_monitor_top_k(trainer, current)
        return trainer.strategy.reduce_boolean_decision(rank(trainer.callback_metrics) > self._kept)

    def _update_best_and_save(self, current, trainer, monitor_candidates) -> None:
        if self.monitor == _ACC:
            self._kept = rank(trainer.callback_metrics)
        super()._update_best_and_save(current, trainer, monitor_candidates)

    def state_dict(self) -> dict:
        return {**super().state_dict(), "kept": self._kept}

    def load_state_dict(self, state: dict) -> None:
        self._kept = tuple(state["kept"]) if state.get("kept") else None
        super().load_state_dict(state)
