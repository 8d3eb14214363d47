"""What the numbered labels of a data set mean: one class each, or a set of classes."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

SEPARATOR = "|"  # between the names of an image's classes


@dataclass(frozen=True)
class LabelSets:
    """Meaning of label numbers. Label k stands for class k, or, with `members`, for the classes of row k.

    `members`, bool (sets, classes), lists the sets of classes that images have. An image can then have several
    classes, or none.
    """

    members: np.ndarray | None = None

    @property
    def several(self) -> bool:
        """Whether an image can have several classes."""
        return self.members is not None

    def classes_of(self, label: int) -> list[int]:
        return [label] if self.members is None else np.flatnonzero(self.members[label]).tolist()

    def counts(self, labels: Iterable[int]) -> Counter[int]:
        """Return how many of the images with these labels have each class."""
        found: Counter[int] = Counter()
        for label, count in Counter(labels).items():
            found.update(dict.fromkeys(self.classes_of(label), count))
        return found

    def matrix(self, labels: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return which classes the images with these labels have, bool (n, classes); there must be `members`."""
        assert self.members is not None
        return self.members[np.asarray(labels, int)]

    def name(self, label: int, classes: Sequence[str]) -> str:
        """Return the classes of a label in words, such as `cat` or `cat|dog`; "" for an image of no class."""
        return SEPARATOR.join(classes[place] for place in self.classes_of(label))


ONE_CLASS = LabelSets()
