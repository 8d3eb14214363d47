"""A network's predictions for images that can have several classes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.special import expit

from thaw.data.label_sets import SEPARATOR


@dataclass(frozen=True)
class LabelPredictions:
    """Labels, bool (n, classes), and logits, float32 (n, classes), of the images at `paths`, in the same order.

    Probabilities are the sigmoid of logits divided by `temperature`. A class is predicted if its probability is at
    least its threshold. `temperature` and `thresholds` are numbers, float (classes,) or float (n, classes).
    """

    paths: Sequence[str]
    labels: np.ndarray
    logits: np.ndarray
    classes: Sequence[str]
    temperature: float | np.ndarray = 1.0
    thresholds: float | np.ndarray = 0.5

    def calibrated(self, temperature: float | np.ndarray, thresholds: float | np.ndarray) -> "LabelPredictions":
        return replace(self, temperature=temperature, thresholds=thresholds)

    @cached_property
    def probabilities(self) -> np.ndarray:
        return expit(self.logits.astype(float) / self.temperature)

    @cached_property
    def predicted(self) -> np.ndarray:
        """Bool (n, classes)."""
        return self.probabilities >= self.thresholds

    @cached_property
    def right(self) -> np.ndarray:
        """Bool (n,): True where all classes of an image are predicted, and no other class."""
        return (self.predicted == self.labels).all(1)

    @property
    def confidence(self) -> np.ndarray:
        """Probability of the least certain decision about an image, float (n,)."""
        return np.where(self.predicted, self.probabilities, 1 - self.probabilities).min(1)

    @cached_property
    def losses(self) -> np.ndarray:
        """Binary cross-entropy of each image in nats, summed over the classes, float (n,)."""
        scaled = self.logits.astype(float) / self.temperature
        return (np.logaddexp(0, scaled) - scaled * self.labels).sum(1)

    def names(self, chosen: np.ndarray) -> str:
        """Return the names of the classes where `chosen`, bool (classes,), is True, such as `cat|dog`."""
        return SEPARATOR.join(str(self.classes[int(place)]) for place in np.flatnonzero(chosen))
