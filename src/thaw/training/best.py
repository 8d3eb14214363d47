"""Choice of the best epoch: the highest val/acc, and among epochs with equal val/acc the lowest val/loss."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from thaw.errors import UserError
from thaw.training.checkpoint_io import MovableCheckpoint

_ACC, _LOSS = "val/acc", "val/loss"
_MODES = {
    **dict.fromkeys((_ACC, "val/macro_acc", "val/macro_f1", "train/acc"), "max"),
    **dict.fromkeys((_LOSS, "val/ece", "train/loss"), "min"),
}
_BETTER = {"min": "lower values are better", "max": "higher values are better"}


def epoch_score(metrics: Mapping[str, float | torch.Tensor]) -> tuple[float, float]:
    """Return a sort key that is larger for better epochs: (val/acc, -val/loss). A loss of NaN counts as infinite."""
    acc, loss = (float(f"{float(metrics[name]):.7g}") for name in (_ACC, _LOSS))  # rounded as in metrics.csv
    return acc, -loss if loss == loss else -float("inf")


def monitored(trainer: Trainer) -> ModelCheckpoint | None:
    """Return the callback that saves the best weights: the first one that monitors a metric."""
    return next((c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.monitor), None)


def ranking(trainer: Trainer, columns: Collection[str]) -> Callable[[Mapping[str, float]], Any] | None:
    """Return a function that gives a row's sort key, largest for the best epoch; None if no column is monitored."""
    checkpoint = monitored(trainer)
    if checkpoint is None or (monitor := checkpoint.monitor) is None or monitor not in columns:
        return None
    sign = 1 if checkpoint.mode == "max" else -1
    return epoch_score if monitor == _ACC else lambda row: sign * row[monitor]


class BestCheckpoint(MovableCheckpoint):
    """Callback that saves the best `save_top_k` epochs: highest val/acc, and at equal val/acc the lowest val/loss.

    With a `monitor` other than val/acc, it works like Lightning's `ModelCheckpoint`.

    Raises:
        UserError: from the constructor, if `mode` would save the worst epoch, or `save_top_k` is 0.

    """

    def __init__(self, monitor: str, mode: str = "max", save_top_k: int = 1, **options):
        wanted = _MODES.get(monitor, mode)
        if mode != wanted:
            raise UserError(f"callbacks.best.monitor={monitor} needs callbacks.best.mode={wanted}: {_BETTER[wanted]}.")
        if save_top_k == 0:
            raise UserError("callbacks.best.save_top_k=0 saves no weights, but the results need them; set it to 1.")
        super().__init__(monitor=monitor, mode=mode, save_top_k=save_top_k, **options)
        self._scores: dict[str, tuple[float, float]] = {}

    def check_monitor_top_k(self, trainer: Trainer, current: torch.Tensor | None = None) -> bool:
        full = self.save_top_k != -1 and len(self.best_k_models) >= self.save_top_k
        if self.monitor != _ACC or current is None or not full or not self._scores:
            return super().check_monitor_top_k(trainer, current)
        better = epoch_score(trainer.callback_metrics) > min(self._scores.values())
        return trainer.strategy.reduce_boolean_decision(better)

    def _update_best_and_save(self, current, trainer, monitor_candidates) -> None:
        super()._update_best_and_save(current, trainer, monitor_candidates)
        if self.monitor == _ACC:
            new = next(path for path, score in self.best_k_models.items() if score is self.current_score)
            scores = {**self._scores, new: epoch_score(trainer.callback_metrics)}
            self._order({path: scores[path] for path in self.best_k_models})

    def _order(self, scores: dict[str, tuple[float, float]]) -> None:
        self._scores = scores
        self.best_model_path, worst = max(scores, key=scores.__getitem__), min(scores, key=scores.__getitem__)
        if len(scores) == self.save_top_k:
            self.kth_best_model_path, self.kth_value = worst, self.best_k_models[worst]

    def state_dict(self) -> dict:
        return {**super().state_dict(), "ranks": self._scores}

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        before, scores = state_dict["dirpath"], state_dict.get("ranks", {})
        if state_dict.get("kept"):
            scores = {state_dict["best_model_path"]: state_dict["kept"]}
        self._scores = {self.moved(path, before): tuple(score) for path, score in scores.items()}
