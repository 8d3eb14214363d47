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

RUNGS = (0.2, 0.4, 0.7)  # shares of a trial's epochs
KEPT = 0.5  # share of trials that passes a rung
FEWEST = 4  # earlier trials without which no trial is ended
_WORSE = 0.1  # largest p-value that ends a repeated trial


def reached(curve: Sequence[float], share: float, epochs: int) -> float | None:
    """Return the best accuracy within a share of a trial's epochs, or None if the trial did not get that far.

    Args:
        curve: the validation accuracy of each epoch.
        share: a share of the trial's epochs, within 0..1.
        epochs: the number of epochs that the trial would take.

    """
    count = _epochs_to(share, epochs)
    return max(curve[:count]) if len(curve) >= count else None


def falls_behind(curve: Sequence[float], epochs: int, earlier: Sequence[tuple[Sequence[float], int]]) -> int | None:
    """Return the number of epochs after which a trial should have ended, or None.

    Args:
        curve: the validation accuracy of each epoch so far.
        epochs: the number of epochs that the trial would take.
        earlier: curve and number of epochs of the trials to compare with.

    """
    for share in RUNGS:
        count = _epochs_to(share, epochs)
        if count > len(curve) or count >= epochs:
            return None
        others = [value for other, total in earlier if (value := reached(other, share, total)) is not None]
        better = sum(value > max(curve[:count]) for value in others)
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
        _, p = wilcoxon(differences, alternative="less", zero_method="zsplit")
    return float(p) <= _WORSE
