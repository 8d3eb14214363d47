"""Divide images with several labels so that each part gets its share of every label."""

from collections import Counter
from collections.abc import Sequence

import numpy as np


def divided(labels: Sequence[Sequence[int]], units: Sequence[Sequence[int]], shares: Sequence[float]) -> list[set[int]]:
    """Return the indices of the images in each part. Parts get `shares` of every label's images, as far as possible.

    `labels` has the classes of each image. `units` are the indices of images that stay together, such as copies. The
    rarest label is divided first: each of its units goes to the part that lacks most images of this label
    (iterative stratification, Sechidis et al. 2011). At the end, each part without a label gets one of its units, if
    no other part loses its only images of a label.
    """
    own = [Counter(label for index in unit for label in labels[index]) for unit in units]
    totals: Counter[int] = sum(own, Counter())
    lacking = {label: np.maximum(count * np.array(shares), 1.0) for label, count in totals.items()}
    room = len(labels) * np.array(shares)
    parts, left = [set[int]() for _ in shares], dict.fromkeys(range(len(units)))
    with_label = {label: [place for place, counts in enumerate(own) if counts[label]] for label in totals}

    def assign(place: int, part: int) -> None:
        del left[place]
        parts[part].update(units[place])
        room[part] -= len(units[place])
        for label, count in own[place].items():
            lacking[label][part] -= count
            totals[label] -= count

    while any(totals.values()):
        label = min((label for label, count in totals.items() if count), key=lambda label: (totals[label], label))
        for place in with_label[label]:
            if place in left:
                assign(place, max(range(len(shares)), key=lambda part: (lacking[label][part], room[part])))
    for place in list(left):
        assign(place, int(room.argmax()))
    _fill(parts, units, own)
    return parts


def _fill(parts: list[set[int]], units: Sequence[Sequence[int]], own: Sequence[Counter[int]]) -> None:
    """Move units into parts that have no image of a label, as far as no other label then lacks in a part."""
    place_of = {index: place for place, unit in enumerate(units) for index in unit}
    holds = [{place_of[index] for index in part} for part in parts]
    counts = [sum((own[place] for place in held), Counter[int]()) for held in holds]
    for label in sorted(set().union(*own)):
        for poor in (part for part, count in enumerate(counts) if not count[label]):
            movable = [
                (len(units[place]), place, rich)
                for rich, held in enumerate(holds)
                for place in held
                if own[place][label] and all(counts[rich][each] > n for each, n in own[place].items())
            ]
            if not movable:
                continue
            _, place, rich = min(movable)
            holds[rich].discard(place)
            holds[poor].add(place)
            parts[rich].difference_update(units[place])
            parts[poor].update(units[place])
            counts[rich].subtract(own[place])
            counts[poor].update(own[place])


def nested_share(members: np.ndarray, share: float, random: np.random.Generator) -> list[int]:
    """Return the sorted indices of a random share of images, with at least one image of every label.

    `members`, bool (n, classes), says which classes an image has. With equal seeds, larger shares contain smaller ones.
    """
    order = random.permutation(len(members))
    kept = set(order[: max(1, round(share * len(members)))].tolist())
    kept.update(int(order[members[order, label].argmax()]) for label in range(members.shape[1]))
    return sorted(kept)
