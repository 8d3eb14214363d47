"""Conformal prediction sets: the classes that an image may have, so that the true class is among them 90 % of the time.

Sources: Romano et al. 2020, "Classification with valid and adaptive coverage"; Angelopoulos et al. 2021, "Uncertainty
sets for image classifiers using conformal prediction" (regularisation).
"""

import math

import torch
from torch import nn

from thaw.evaluation.predictions import Predictions, parts

COVERAGE = 0.9
_PENALTY, _FREE_RANKS = 0.01, 5  # regularisation of Angelopoulos et al.: added per rank behind the fifth


class PredictionSets(nn.Module):
    """Prediction sets with any coverage, from the scores of n validation images, float64 (n,).

    The set of an image has each class whose score is at most the threshold of the coverage. For a model that is right
    less often than the coverage, it is the smallest set of the most probable classes that reaches a fitted probability.
    For a model that is right more often, the set has one class, or none if the model is too uncertain.
    """

    scores: torch.Tensor

    def __init__(self, scores: torch.Tensor):
        super().__init__()
        self.register_buffer("scores", scores)

    def threshold(self, coverage: float) -> float:
        """Return the largest score in a set, as `threshold_covering` of the validation images."""
        return threshold_covering(self.scores, coverage)

    def forward(self, logits: torch.Tensor, coverage: float = COVERAGE) -> torch.Tensor:
        """Return which classes are in the sets, bool (N, classes), for calibrated logits (N, classes)."""
        return class_scores(logits) <= self.threshold(coverage)


def threshold_covering(scores: torch.Tensor, coverage: float) -> float:
    """Return a threshold that the score of a new image exceeds with a probability of at most 1 - `coverage`.

    `scores`, float (n,), are those of n images of the same kind. The threshold lies between two of them, so that
    rounding does not change which images it covers. It is infinite if n images are too few for the coverage.
    """
    n, ranked = len(scores), scores.sort().values
    covered = max(1, math.ceil((n + 1) * coverage - 1e-9))  # of the n + 1 images with the new one
    if covered > n:
        return math.inf
    return (ranked[covered - 1] + ranked[min(covered, n - 1)]).item() / 2


def class_scores(logits: torch.Tensor) -> torch.Tensor:
    """Return the score of each class, float64 (N, classes), for calibrated logits (N, classes); a low score is likely.

    The score of the most probable class is the logarithm of the other classes' probability, which is negative. The
    score of another class is the probability of all classes that are more probable, plus the penalty for its rank.
    """
    ranked, order = logits.double().softmax(1).topk(logits.shape[1], dim=1)  # a sort that ONNX has
    rest = ranked[:, 1:].sum(1, keepdim=True).log()
    ranks = torch.arange(1, ranked.shape[1], device=logits.device)
    others = ranked.cumsum(1)[:, :-1] + _PENALTY * (ranks + 1 - _FREE_RANKS).clamp(min=0)
    return torch.zeros_like(ranked).scatter(1, order, torch.cat([rest, others], 1))


def fitted_sets(held_out: Predictions) -> PredictionSets:
    """Return prediction sets fitted on labelled images, whose temperatures must be cross-fitted."""
    logits = torch.from_numpy(held_out.logits)
    labels = torch.from_numpy(held_out.labels)[:, None]
    temperatures = torch.as_tensor(held_out.temperature).expand(len(labels))[:, None]
    own = [class_scores(logits[p] / temperatures[p]).gather(1, labels[p])[:, 0] for p in parts(*logits.shape)]
    return PredictionSets(torch.cat(own))
