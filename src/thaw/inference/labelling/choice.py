"""Choose images to label: typical images first; later images that the model doubts and that differ from each other."""

from dataclasses import dataclass

import numpy as np

from thaw.inference.labelling.clusters import clusters

TYPICAL, DOUBTFUL = "typical", "doubtful"

_ENOUGH = 10  # labelled images per class, on average, with which the model's doubts are a better guide than chance
_MOST_CLUSTERS = 300  # more would take longer than ten seconds for 10,000 images
_POOL = 3  # times as many doubtful images as wanted, among which clusters find different ones


@dataclass(frozen=True)
class Choice:
    """An image to label: its `index`, and whether it is typical or doubtful."""

    index: int
    reason: str


def choose(
    features: np.ndarray, probabilities: np.ndarray, labelled: np.ndarray, count: int, seed: int = 0
) -> list[Choice]:
    """Return `count` unlabelled images to label next, or all if there are fewer; the most useful image comes first.

    With fewer than 10 labelled images per class, the images nearest to the centres of clusters are chosen, from the
    largest clusters without labelled images (TypiClust, Hacohen et al. 2022). A model that has seen so few images
    doubts the wrong ones (Mittal et al. 2019). With more labels, clusters divide the images with the smallest margin
    between the two most probable classes, and one image of each cluster is chosen (Citovsky et al. 2021).

    Args:
        features: of the unlabelled images, float (n, D).
        probabilities: of their classes, float (n, classes).
        labelled: features of the labelled images, float (m, D). If these `are_enough`, only their number counts, and
            D may be 0.
        count: the number of images to choose.
        seed: of the clusters' starting points.

    """
    random, found = np.random.default_rng(seed), _normalized(features)
    count = min(count, len(found))
    if are_enough(len(labelled), probabilities.shape[1]):
        return [Choice(index, DOUBTFUL) for index in _doubtful(found, probabilities, count, random)]
    return [Choice(index, TYPICAL) for index in _typical(found, _normalized(labelled), count, random)]


def are_enough(labelled: int, classes: int) -> bool:
    """Return whether a model has seen so many labelled images that its doubts are a good guide."""
    return labelled >= _ENOUGH * classes


def _typical(features: np.ndarray, labelled: np.ndarray, count: int, random: np.random.Generator) -> list[int]:
    together = np.concatenate([features, labelled])
    number = min(len(labelled) + count, max(_MOST_CLUSTERS, count), len(together))
    cluster, distance = clusters(together, number, random)
    known = set(cluster[len(features) :].tolist())
    cluster, distance = cluster[: len(features)], distance[: len(features)]
    sizes = np.bincount(cluster, minlength=number)
    # Clusters without labelled images come first, and among these the largest.
    order = sorted(np.flatnonzero(sizes).tolist(), key=lambda one: (one in known, -sizes[one]))
    queues = [members[np.argsort(distance[members], kind="stable")] for members in _members(cluster, order)]
    return _in_turn(queues, count)


def _doubtful(features: np.ndarray, probabilities: np.ndarray, count: int, random: np.random.Generator) -> list[int]:
    margins = np.ptp(np.partition(probabilities, -2, axis=1)[:, -2:], axis=1)
    pool = np.argsort(margins, kind="stable")[: _POOL * count]
    cluster, distance = clusters(features[pool], min(count, len(pool)), random)
    order = sorted(set(cluster.tolist()), key=lambda one: margins[pool[cluster == one]].min())
    queues = [pool[members[np.argsort(distance[members], kind="stable")]] for members in _members(cluster, order)]
    return _in_turn(queues, count)


def _members(cluster: np.ndarray, order: list[int]) -> list[np.ndarray]:
    return [np.flatnonzero(cluster == one) for one in order]


def _in_turn(queues: list[np.ndarray], count: int) -> list[int]:
    """Return the first of each queue, then the second of each queue, and so on."""
    depth = max(map(len, queues), default=0)
    return [int(queue[place]) for place in range(depth) for queue in queues if place < len(queue)][:count]


def _normalized(features: np.ndarray) -> np.ndarray:
    """Return features of length 1, whose Euclidean distances are those of their directions."""
    found = np.asarray(features, np.float32)
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
