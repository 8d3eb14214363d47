"""What a trained model says of the images of a folder, and of the same images made worse."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from tqdm import tqdm

from thaw.data.folders import Sample
from thaw.data.workers import roomy_batch_size, usable_cores
from thaw.errors import UnreadableImageError, UserError
from thaw.evaluation.corruptions import Corruption
from thaw.evaluation.evaluation import joined
from thaw.evaluation.measures import Answered
from thaw.inference.trained_model import TrainedModel


@dataclass(frozen=True)
class Answers:
    """`logits` are float32 (N, classes) of the images that could be read, `samples`, undivided by the temperature.

    `corrupted` has, of each corruption, whether each image is then right, bool (N,), and the calibrated confidence,
    float (N,). `faults` has a sentence for each image that could not be read.
    """

    samples: Sequence[Sample]
    logits: torch.Tensor
    corrupted: Sequence[tuple[np.ndarray, np.ndarray]]
    faults: Sequence[str]

    @property
    def labels(self) -> torch.Tensor:
        return torch.tensor([label for _, label in self.samples])


def answers(model: TrainedModel, samples: Sequence[Sample], corruptions: Sequence[Corruption]) -> Answers:
    """Each file is decoded once, a batch and what follows it at a time, however many corruptions there are.

    Raises:
        UserError: if none of the images can be read.

    """
    kept: list[Sample] = []
    faults: list[str] = []
    size = roomy_batch_size(model.preprocessing.crop)
    found, views_each = _Found(model.temperature, len(corruptions)), 1 + len(corruptions)
    total = len(samples) * views_each
    with tqdm(desc="evaluating", total=total, unit="image", leave=False, disable=not sys.stderr.isatty()) as bar:

        def views(place: int) -> list[torch.Tensor]:
            crop = model.read(samples[place][0])
            return [crop, *(corruption(crop, place) for corruption in corruptions)]

        def readable() -> Iterator[list[torch.Tensor]]:
            for sample, (seen, fault) in zip(samples, _in_order(views, range(len(samples)), size), strict=True):
                if fault is None:
                    kept.append(sample)
                    yield seen
                else:
                    faults.append(str(fault))
                    bar.update(views_each)

        crops = readable()
        while batch := list(islice(crops, size)):
            labels = np.array([label for _, label in kept[-len(batch) :]])
            for place, images in enumerate(zip(*batch, strict=True)):
                found.add(place, model.logits(torch.stack(images)), labels)
                bar.update(len(images))
    if not kept:
        none = f"none of the {len(samples)} images can be read; the first: " if len(samples) > 1 else ""
        raise UserError(f"{none}{faults[0]}")
    return Answers(kept, joined(found.clean), found.joined(), faults)


class _Found:
    """Logits of whole images alone: those of all corruptions would need as many times the memory."""

    def __init__(self, temperature: float, corruptions: int):
        self.clean: list[torch.Tensor] = []
        self._temperature = temperature
        self._corrupted: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in range(corruptions)]

    def add(self, place: int, logits: torch.Tensor, labels: np.ndarray) -> None:
        if not place:
            self.clean.append(logits)
            return
        judged = Answered(labels, logits.numpy(), self._temperature)
        self._corrupted[place - 1].append((judged.right, judged.confidence))

    def joined(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return [tuple(np.concatenate(column) for column in zip(*batches, strict=True)) for batches in self._corrupted]


def _in_order(
    task: Callable[[int], list[torch.Tensor]], given: Iterable[int], ahead: int
) -> Iterator[tuple[list[torch.Tensor] | None, UnreadableImageError | None]]:
    """What `task` gives, or its fault, some `ahead` of what is taken; Pillow lets threads decode at once."""
    with ThreadPoolExecutor(usable_cores()) as pool:
        rest = (pool.submit(task, one) for one in given)
        waiting = deque(islice(rest, ahead))
        try:
            while waiting:
                done = waiting.popleft()
                fault = done.exception()
                if fault is not None and not isinstance(fault, UnreadableImageError):
                    raise fault
                yield (None, fault) if fault else (done.result(), None)
                waiting.extend(islice(rest, 1))
        finally:
            pool.shutdown(cancel_futures=True)
