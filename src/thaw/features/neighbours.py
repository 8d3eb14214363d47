"""Classify training images by a vote of their nearest neighbours among the other training images."""

from collections.abc import Iterator
from itertools import takewhile

import torch
from torch.nn.functional import normalize

from thaw.features.head_inputs import evenly_spaced
from thaw.features.linear_objective import FeatureRows

NEIGHBOURS = 20
_TEMPERATURE = 0.07
_MOST_ASKED = 2000  # largest number of classified images; the time is proportional to it


def neighbour_accuracy(rows: FeatureRows) -> tuple[float, int]:
    """Return the accuracy of classification by 20 nearest neighbours, and the number of classified images.

    At most 2000 training images, evenly spread, are classified. Neighbours are the other unaugmented training images
    whose features have the largest cosine similarity s. Each neighbour votes with the weight exp(s / 0.07).
    Source: Wu et al. 2018, "Unsupervised feature learning via non-parametric instance discrimination".
    """
    count, device = min(_MOST_ASKED, rows.images), rows.device
    asked = evenly_spaced(rows.images, count).to(device)
    wanted = torch.cat([_unit(x[asked[_inside(asked, part)] - part.start]) for part, x in _unaugmented(rows)])
    nearest = torch.empty(count, 0, device=device)
    labels = torch.empty(count, 0, dtype=torch.long, device=device)
    for part, x in _unaugmented(rows):
        similar, inside = wanted @ _unit(x).T, _inside(asked, part)
        similar[inside, asked[inside] - part.start] = -torch.inf
        closest, places = similar.topk(min(NEIGHBOURS, len(x)), dim=1)
        nearest, labels = torch.cat([nearest, closest], 1), torch.cat([labels, rows.labels[part][places]], 1)
        nearest, places = nearest.topk(min(NEIGHBOURS, nearest.shape[1]), dim=1)
        labels = labels.gather(1, places)
    votes = torch.zeros(count, rows.classes, device=device)
    votes.scatter_add_(1, labels, (nearest / _TEMPERATURE).exp())
    return (votes.argmax(1) == rows.labels[asked]).float().mean().item(), count


def _unaugmented(rows: FeatureRows) -> Iterator[tuple[slice, torch.Tensor]]:
    """Yield the chunks of view 0, which is not augmented."""
    return takewhile(lambda chunk: chunk[0].stop <= rows.images, rows.chunks())


def _unit(x: torch.Tensor) -> torch.Tensor:
    return normalize(x.float())


def _inside(asked: torch.Tensor, part: slice) -> torch.Tensor:
    return (asked >= part.start) & (asked < part.stop)
