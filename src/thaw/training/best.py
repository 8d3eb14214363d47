"""Choice of the best epoch: the highest decisive metric, and among equal epochs the lowest val/loss."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from thaw.errors import UserError
from thaw.training.checkpoint_io import MovableCheckpoint

AUTO = "auto"
DECISIVE, _LOSS = ("val/acc", "val/map"), "val/loss"  # val/map if images can have several classes
_MODES = {
    **dict.fromkeys((AUTO, *DECISIVE, "val/macro_acc", "val/macro_f1", "train/acc"), "max"),
    **dict.fromkeys((_LOSS, "val/ece", "train/loss"), "min"),
}
_BETTER = {"min": "lower values are better", "max": "higher values are better"}


def epoch_score(metrics: Mapping[str, float | torch.Tensor], decisive: str) -> tuple[float, float]:
    """Return a sort key that is larger for better epochs: (decisive metric, -val/loss). A loss of NaN is infinite."""
    value, loss = (float(f"{float(metrics[name]):.7g}") for name in (decisive, _LOSS))  # rounded as in metrics.csv
    return value, -loss if loss == loss else -float("inf")


def choose_monitors(trainer: Any, decisive: str) -> None:
    """Let callbacks with `monitor: auto` monitor the metric `decisive`, such as val/acc."""
    for callback in trainer.callbacks:
        if getattr(callback, "monitor", None) == AUTO:
            callback.monitor = decisive


def monitored(trainer: Trainer) -> ModelCheckpoint | None:
    """Return the callback that saves the best weights: the first one that monitors a metric."""
    return next((c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.monitor), None)


def ranking(trainer: Trainer, columns: Collection[str]) -> Callable[[Mapping[str, float]], Any] | None:
    """Return a function that gives a row's sort key, largest for the best epoch; None if no column is monitored."""
    checkpoint = monitored(trainer)
    if checkpoint is None or (monitor := checkpoint.monitor) is None or monitor not in columns:
        return None
    sign = 1 if checkpoint.mode == "max" else -1
    if monitor in DECISIVE:
        return lambda row: epoch_score(row, monitor)
    return lambda row: sign * row[monitor]


class BestCheckpoint(MovableCheckpoint):
    """Callback that saves the best `save_top_k` epochs.

    With the `monitor` val/acc or val/map, the lower val/loss decides between epochs with equal values. With another
    one, this works like Lightning's `ModelCheckpoint`. `auto` is val/map if images can have several classes, otherwise
    val/acc; `choose_monitors` sets it.

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
        if self.monitor not in DECISIVE or current is None or not full or not self._scores:
            return super().check_monitor_top_k(trainer, current)
        better = epoch_score(trainer.callback_metrics, self.monitor) > min(self._scores.values())
        return trainer.strategy.reduce_boolean_decision(better)

    def _update_best_and_save(self, current, trainer, monitor_candidates) -> None:
        super()._update_best_and_save(current, trainer, monitor_candidates)
        if self.monitor in DECISIVE:
            new = next(path for path, score in self.best_k_models.items() if score is self.current_score)
            scores = {**self._scores, new: epoch_score(trainer.callback_metrics, self.monitor)}
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
