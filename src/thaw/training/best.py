"""Which epoch is the best: of equal accuracy the one with the lower loss."""

from collections.abc import Callable, Collection, Mapping

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


def rank(metrics: Mapping[str, float | torch.Tensor]) -> tuple[float, float]:
    """The larger, the better; NaN as a loss is the worst."""
    acc, loss = (float(f"{float(metrics[name]):.7g}") for name in (_ACC, _LOSS))  # the digits that metrics.csv holds
    return acc, -loss if loss == loss else -float("inf")


def monitored(trainer: Trainer) -> ModelCheckpoint | None:
    """Return the callback that keeps the best weights: the first one that monitors a metric."""
    return next((c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.monitor), None)


def ranking(trainer: Trainer, columns: Collection[str]) -> Callable[[Mapping[str, float]], object] | None:
    """Return a key by which the largest of rows is the epoch whose weights are kept, if these columns say it."""
    kept = monitored(trainer)
    if kept is None or kept.monitor not in columns:
        return None
    sign = 1 if kept.mode == "max" else -1
    return rank if kept.monitor == _ACC else lambda row: sign * row[kept.monitor]


class BestCheckpoint(MovableCheckpoint):
    """Keeps the `save_top_k` epochs with the highest val/acc, and of equal ones those with the lowest val/loss.

    With another `monitor` it keeps what that says, as Lightning does.

    Raises:
        UserError: from the constructor, for a `mode` that keeps the worst epoch, or if nothing is to be kept.

    """

    def __init__(self, monitor: str, mode: str = "max", save_top_k: int = 1, **options):
        wanted = _MODES.get(monitor, mode)
        if mode != wanted:
            raise UserError(f"callbacks.best.monitor={monitor} needs callbacks.best.mode={wanted}: {_BETTER[wanted]}.")
        if save_top_k == 0:
            raise UserError("callbacks.best.save_top_k=0 keeps no weights, of which the results would be; 1 is enough.")
        super().__init__(monitor=monitor, mode=mode, save_top_k=save_top_k, **options)
        self._ranks: dict[str, tuple[float, float]] = {}

    def check_monitor_top_k(self, trainer, current: torch.Tensor | None = None) -> bool:
        full = self.save_top_k != -1 and len(self.best_k_models) >= self.save_top_k
        if self.monitor != _ACC or current is None or not full or not self._ranks:
            return super().check_monitor_top_k(trainer, current)
        better = rank(trainer.callback_metrics) > min(self._ranks.values())
        return trainer.strategy.reduce_boolean_decision(better)

    def _update_best_and_save(self, current, trainer, monitor_candidates) -> None:
        super()._update_best_and_save(current, trainer, monitor_candidates)
        if self.monitor == _ACC:
            new = next(path for path, score in self.best_k_models.items() if score is self.current_score)
            ranks = {**self._ranks, new: rank(trainer.callback_metrics)}
            self._order({path: ranks[path] for path in self.best_k_models})

    def _order(self, ranks: dict[str, tuple[float, float]]) -> None:
        """Let losses decide which of the files with equal accuracy is the best, and which the next to be replaced."""
        self._ranks = ranks
        self.best_model_path, worst = max(ranks, key=ranks.get), min(ranks, key=ranks.get)
        if len(ranks) == self.save_top_k:
            self.kth_best_model_path, self.kth_value = worst, self.best_k_models[worst]

    def state_dict(self) -> dict:
        return {**super().state_dict(), "ranks": self._ranks}

    def load_state_dict(self, state: dict) -> None:
        super().load_state_dict(state)
        ranks = {state["best_model_path"]: state["kept"]} if state.get("kept") else state.get("ranks", {})
        self._ranks = {self.here(path, state["dirpath"]): tuple(kept) for path, kept in ranks.items()}
