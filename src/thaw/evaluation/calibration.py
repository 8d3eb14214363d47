"""How far a net's confidence can be believed: a temperature for its logits."""

from collections.abc import Iterator

import numpy as np
import torch
from scipy.optimize import minimize_scalar

_LEAST = 0.02
_LEAST_MARGIN = 0.01  # that is left between two classes, half of the time; else rounding would decide between them
_FOLDS = 5
_AT_ONCE = (
    2**16
)  # logits that a processor's cache holds; copies of all would not fit into memory where classes are many


def parts(count: int, classes: int) -> Iterator[slice]:
    """Yield `count` rows of logits in order, as many at a time as are quick to compute with."""
    rows = max(1, _AT_ONCE // classes)
    return (slice(first, first + rows) for first in range(0, count, rows))


def fitted_temperature(logits: torch.Tensor, labels: torch.Tensor, rows: torch.Tensor | None = None) -> float:
    """The T for which softmax(logits / T) is likeliest, of float (n, classes) and int64 (n,) (Guo et al. 2017).

    With `rows`, int64 indices, it is that of these images. One image more, of which every class is as likely, keeps it
    finite where a net makes no mistake (as Platt 1999).
    """
    rows = torch.arange(len(labels)) if rows is None else rows
    share = 1 / (len(rows) + 2)
    pieces = [rows[part] for part in parts(len(rows), logits.shape[1])]

    def scores() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return ((logits[piece].double(), labels[piece]) for piece in pieces)

    wanted = torch.cat([(1 - share) * x.gather(1, y[:, None])[:, 0] + share * x.mean(1) for x, y in scores()])
    margins = torch.cat([x.topk(2).values for x, _ in scores()])

    def loss(inverse: float) -> float:
        total = sum((inverse * x).logsumexp(1).sum().item() for x, _ in scores())
        return total / len(rows) - inverse * wanted.mean().item()

    margin = np.median((margins[:, 0] - margins[:, 1]).numpy())
    most = max(1.0, margin / _LEAST_MARGIN)  # of a net that knows nothing; else the loss is lowest before
    # It is convex in 1/T, but looks flat from far away: the logarithm of T is searched.
    found = minimize_scalar(lambda log: loss(np.exp(-log)), bounds=(np.log(_LEAST), np.log(most)), method="bounded")
    return float(np.exp(found.x))


def cross_fitted(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Float (n,): of each image a temperature that was fitted without it, to tell what to expect of other images."""
    fold = torch.from_numpy(np.random.default_rng(0).permutation(len(labels)) % _FOLDS)
    temperatures = torch.ones(len(labels))
    for number in range(_FOLDS):
        (others,) = torch.nonzero(fold != number, as_tuple=True)
        if 0 < len(others) < len(labels):
            temperatures[fold == number] = fitted_temperature(logits, labels, others)
    return temperatures
