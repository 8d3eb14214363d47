"""Early end of trials that are unlikely to become the best.

Rungs are shares of a trial's epochs. At a rung a trial continues only if it belongs to the better part of the earlier
trials there: asynchronous successive halving (Li et al. 2020, "A system for massively parallel hyperparameter tuning").
Between repetitions of a trial, on other seeds or folds, Wilcoxon's signed-rank test decides.
"""

import math
import warnings
from collections.abc import Sequence

import numpy as np
from scipy.stats import wilcoxon

Epoch = tuple[float, float]  # validation accuracy and loss
Curve = Sequence[Epoch]
RUNGS = (0.1, 0.3, 0.6)  # shares of a trial's epochs
KEPT = 0.25  # share of trials that passes a rung
FEWEST = 3  # without so many earlier trials at a rung, no trial ends there
_WORSE = 0.1  # largest p-value that ends a repeated trial


def epoch_rank(epoch: Epoch) -> tuple[float, float]:
    """Return a key that is larger for better epochs: the accuracy, then the loss."""
    accuracy, loss = epoch
    return accuracy, -loss if loss == loss else -math.inf


def best_epoch(curve: Curve) -> Epoch:
    return max(curve, key=epoch_rank)


def reached(curve: Curve, share: float, epochs: int) -> Epoch | None:
    """Return the best epoch within a share of a trial's epochs, or None if the trial did not get that far.

    Args:
        curve: the epochs that the trial took.
        share: a share of the trial's epochs, within 0..1.
        epochs: the number of epochs that the trial would take.

    """
    count = _epochs_to(share, epochs)
    return best_epoch(curve[:count]) if len(curve) >= count else None


def falls_behind(curve: Curve, epochs: int, earlier: Sequence[tuple[Curve, int]]) -> int | None:
    """Return the number of epochs after which a trial should have ended, or None.

    Args:
        curve: the epochs so far.
        epochs: the number of epochs that the trial would take.
        earlier: the epochs, and the number of epochs at most, of each trial to compare with.

    """
    for share in RUNGS:
        count = _epochs_to(share, epochs)
        if count > len(curve) or count >= epochs:
            return None
        own = epoch_rank(best_epoch(curve[:count]))
        others = [best for other, total in earlier if (best := reached(other, share, total)) is not None]
        better = sum(epoch_rank(other) > own for other in others)
        if len(others) >= FEWEST and better >= KEPT * (len(others) + 1):
            return count
    return None


def _epochs_to(share: float, epochs: int) -> int:
    return max(1, math.ceil(round(share * epochs, 9)))


def clearly_worse(scores: Sequence[float], best: Sequence[float]) -> bool:
    """Return whether a trial is worse than the best one by their results on the same seeds or folds.

    A trial whose mean is higher is not worse, whatever the test says.
    """
    count = min(len(scores), len(best))
    differences = np.subtract(scores[:count], best[:count])
    if count < 2 or differences.mean() >= 0 or not differences.any():
        return False
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="scipy")  # few or equal differences: the p-value is only coarse
        _, p = np.asarray(wilcoxon(differences, alternative="less", zero_method="zsplit"))
    return float(p) <= _WORSE
