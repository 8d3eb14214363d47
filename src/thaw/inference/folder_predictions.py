"""A trained model's predictions for a folder's images and for corrupted copies of them."""

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
from thaw.data.workers import inference_batch_size, usable_cores
from thaw.errors import UnreadableImageError, UserError
from thaw.evaluation.corruptions import Corruption
from thaw.evaluation.predictions import Predictions, joined
from thaw.inference.trained_model import TrainedModel

_Judged = tuple[np.ndarray, np.ndarray]  # correct, bool (N,); confidence, float (N,)


@dataclass(frozen=True)
class FolderPredictions:
    """Predictions for the readable images of a folder, with the model's temperature.

    `corrupted` has for each corruption whether the predictions are correct, bool (N,), and the calibrated confidences,
    float (N,). `faults` has a sentence for each unreadable image.
    """

    clean: Predictions
    corrupted: Sequence[_Judged]
    faults: Sequence[str]


def predict_folder(
    model: TrainedModel, samples: Sequence[Sample], corruptions: Sequence[Corruption]
) -> FolderPredictions:
    """Return the predictions for `samples` and for each of their corruptions; each file is decoded once.

    Raises:
        UserError: if none of the images can be read.

    """
    kept, faults = list[Sample](), list[str]()
    size = inference_batch_size(model.preprocessing.crop)
    found, views_each = _Collected(model, len(corruptions)), 1 + len(corruptions)
    progress = {"total": len(samples) * views_each, "unit": "image", "disable": not sys.stderr.isatty()}
    with tqdm(desc="evaluating", leave=False, **progress) as bar:

        def views(place: int) -> list[torch.Tensor]:
            crop = model.read(samples[place][0])
            return [crop, *(corruption(crop, place) for corruption in corruptions)]

        def readable() -> Iterator[list[torch.Tensor]]:
            for sample, result in zip(samples, _in_order(views, range(len(samples)), size), strict=True):
                if isinstance(result, UnreadableImageError):
                    faults.append(str(result))
                    bar.update(views_each)
                else:
                    kept.append(sample)
                    yield result

        crops = readable()
        while batch := list(islice(crops, size)):
            labels = np.array([label for _, label in kept[-len(batch) :]])
            for place, images in enumerate(zip(*batch, strict=True)):
                found.add(place, model.logits(torch.stack(images)), labels)
                bar.update(len(images))
    if not kept:
        none = f"none of the {len(samples)} images can be read; the first: " if len(samples) > 1 else ""
        raise UserError(f"{none}{faults[0]}")
    paths, labels = zip(*kept, strict=True)
    clean = Predictions(paths, np.array(labels), joined(found.clean), model.classes, model.temperature)
    return FolderPredictions(clean, found.joined(), faults)


class _Collected:
    """Logits of the uncorrupted images, and only correctness and confidence of corrupted ones, to save memory."""

    def __init__(self, model: TrainedModel, corruptions: int):
        self.clean: list[torch.Tensor] = []
        self._model = model
        self._corrupted: list[list[_Judged]] = [[] for _ in range(corruptions)]

    def add(self, place: int, logits: torch.Tensor, labels: np.ndarray) -> None:
        if not place:
            self.clean.append(logits)
            return
        predictions = Predictions((), labels, logits.numpy(), self._model.classes, self._model.temperature)
        self._corrupted[place - 1].append((predictions.right, predictions.confidence))

    def joined(self) -> list[_Judged]:
        columns = (zip(*batches, strict=True) for batches in self._corrupted)
        return [(np.concatenate(right), np.concatenate(confidence)) for right, confidence in columns]


def _in_order(
    task: Callable[[int], list[torch.Tensor]], arguments: Iterable[int], ahead: int
) -> Iterator[list[torch.Tensor] | UnreadableImageError]:
    """Yield the results of `task`, or its error for an unreadable image, in order; threads work `ahead`."""
    with ThreadPoolExecutor(usable_cores()) as pool:  # Pillow releases the interpreter's lock while it decodes
        rest = (pool.submit(task, argument) for argument in arguments)
        waiting = deque(islice(rest, ahead))
        try:
            while waiting:
                done = waiting.popleft()
                error = done.exception()
                yield error if isinstance(error, UnreadableImageError) else done.result()
                waiting.extend(islice(rest, 1))
        finally:
            pool.shutdown(cancel_futures=True)
