"""How far a net's confidence can be believed: a temperature for its logits."""

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

_LEAST = 0.02
_LEAST_MARGIN = 0.01  # that is left between two classes, half of the time; else rounding would decide between them
_FOLDS = 5


def fitted_temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """The T for which softmax(logits / T) is likeliest, of float (n, classes) and int64 (n,) (Guo et al. 2017).

    One image more, of which every class is as likely, keeps it finite where a net makes no mistake (as Platt 1999).
    """
    scores, right = logits.double().numpy(), labels.numpy()
    share = 1 / (len(right) + 2)

    def loss(inverse: float) -> float:
        log = log_softmax(inverse * scores, axis=1)
        return -((1 - share) * log[np.arange(len(right)), right] + share * log.mean(1)).mean()

    best_two = np.sort(scores, axis=1)[:, -2:]
    margin = np.median(best_two[:, -1] - best_two[:, 0])
    most = max(1.0, margin / _LEAST_MARGIN)  # of a net that knows nothing; else the loss is lowest before
    # It is convex in 1/T, but looks flat from far away: the logarithm of T is searched.
    found = minimize_scalar(lambda log: loss(np.exp(-log)), bounds=(np.log(_LEAST), np.log(most)), method="bounded")
    return float(np.exp(found.x))


def cross_fitted(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """`logits` over temperatures that each were fitted without the image itself: what to expect of other images."""
    fold = np.random.default_rng(0).permutation(len(labels)) % _FOLDS
    divided = logits.clone()
    for number in range(_FOLDS):
        own, others = torch.from_numpy(fold == number), torch.from_numpy(fold != number)
        if own.any() and others.any():
            divided[own] = logits[own] / fitted_temperature(logits[others], labels[others])
    return divided
