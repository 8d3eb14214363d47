"""A network's predictions for labelled images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.special import log_softmax

from thaw.evaluation.confusion import confusion_counts

_AT_ONCE = 2**16  # logits per part: a part fits into a CPU's cache; a copy of all logits may not fit into memory


@dataclass(frozen=True)
class Predictions:
    """Labels, int64 (n,), and logits, float32 (n, classes), of the images at `paths`, in the same order.

    Confidences and losses are computed from logits divided by `temperature`, a number or float (n,). Probabilities are
    computed in parts and never stored, because with many classes they would not fit into memory.
    """

    paths: Sequence[str]
    labels: np.ndarray
    logits: np.ndarray
    classes: Sequence[str]
    temperature: float | np.ndarray = 1.0

    def divided_by(self, temperature: float | np.ndarray) -> "Predictions":
        return self if np.array_equal(temperature, self.temperature) else replace(self, temperature=temperature)

    @cached_property
    def predicted(self) -> np.ndarray:
        return self.logits.argmax(1)

    @cached_property
    def right(self) -> np.ndarray:
        """Bool (n,): True where the prediction is correct."""
        return self.predicted == self.labels

    @property
    def confidence(self) -> np.ndarray:
        """Probability of the predicted class, float (n,) within 0..1."""
        return self._judged[0]

    @property
    def losses(self) -> np.ndarray:
        """Cross-entropy of each image in nats, float (n,)."""
        return self._judged[1]

    @cached_property
    def confusion(self) -> csr_array:
        """Confusion matrix, int64 (true class, predicted class)."""
        return confusion_counts(self.labels, self.predicted, len(self.classes))

    @cached_property
    def _judged(self) -> tuple[np.ndarray, np.ndarray]:
        temperatures, found = np.broadcast_to(self.temperature, len(self.labels)), []
        for part in parts(*self.logits.shape):
            log = log_softmax(self.logits[part].astype(float) / temperatures[part, None], axis=1)
            found.append((np.exp(log.max(1)), -log[np.arange(len(log)), self.labels[part]]))
        confidences, losses = zip(*found, strict=True)
        return np.concatenate(confidences), np.concatenate(losses)


def parts(count: int, classes: int) -> Iterator[slice]:
    """Return slices that divide `count` rows of logits, in order; the logits of one slice fit into a CPU's cache."""
    rows = max(1, _AT_ONCE // classes)
    return (slice(first, first + rows) for first in range(0, count, rows))


def joined(batches: list[torch.Tensor]) -> np.ndarray:
    """Return all batches as one float32 array (n, classes). The list `batches` is emptied, which saves memory."""
    rows = np.empty((sum(map(len, batches)), batches[0].shape[1]), np.float32)
    end = len(rows)
    while batches:
        batch = batches.pop()
        rows[end - len(batch) : end] = batch.cpu().numpy()
        end -= len(batch)
    return rows
