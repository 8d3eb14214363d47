"""Classify waiting images in batches, in one thread that owns the network."""

import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import torch

from thaw.inference.gradcam import gradcam
from thaw.inference.trained_model import TrainedModel


class BusyError(RuntimeError):
    """The queue of waiting images is full."""


@dataclass(frozen=True)
class Answer:
    """Calibrated probabilities of one image, float (classes,), and its Grad-CAM heatmap, float (S, S), if requested.

    If the model has prediction sets, `within` says which classes are in the image's set, bool (classes,). If it has an
    image distance, `distance` is that of the image.
    """

    probabilities: torch.Tensor
    heatmap: torch.Tensor | None = None
    within: torch.Tensor | None = None
    distance: float | None = None


@dataclass(frozen=True)
class _Request:
    image: torch.Tensor
    explain: bool
    answer: Future[Answer] = field(default_factory=Future)


class Batcher:
    """Thread that classifies batches of up to `most` images.

    A batch starts `wait` seconds after its first image arrives, or as soon as it is full. The queue holds at most
    `capacity` images. `sizes` counts the batches of each size. Grad-CAM runs in this thread, too, because it adds hooks
    to the network.
    """

    def __init__(self, model: TrainedModel, most: int = 16, wait: float = 0.005, capacity: int = 64):
        self.sizes: dict[int, int] = {}
        self._model, self._most, self._wait = model, most, wait
        self._waiting: queue.Queue[_Request] = queue.Queue(capacity)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def waiting(self) -> int:
        return self._waiting.qsize()

    def submit(self, image: torch.Tensor, explain: bool = False) -> Future[Answer]:
        """Put an image, uint8 (3, S, S), into the queue and return its answer as a future.

        Raises: BusyError: if the queue is full.
        """
        request = _Request(image, explain)
        try:
            self._waiting.put_nowait(request)
        except queue.Full as error:
            raise BusyError from error
        return request.answer

    def close(self, seconds: float = 5.0) -> None:
        """Stop the thread after its current batch, waiting up to `seconds`. Images in the queue get no answer."""
        self._closed.set()
        self._thread.join(seconds)

    def _work(self) -> None:
        while not self._closed.is_set():
            requests = [request for request in self._next_batch() if request.answer.set_running_or_notify_cancel()]
            if not requests:
                continue
            self.sizes[len(requests)] = self.sizes.get(len(requests), 0) + 1
            try:
                answers = _classify(self._model, requests)
            except Exception as error:  # such as lack of memory; the next batch may succeed
                for request in requests:
                    request.answer.set_exception(error)
                continue
            for request, answer in zip(requests, answers, strict=True):
                request.answer.set_result(answer)

    def _next_batch(self) -> list[_Request]:
        found: list[_Request] = []
        try:
            found.append(self._waiting.get(timeout=0.2))  # a timeout, so that the thread notices `close`
            last = time.monotonic() + self._wait
            while len(found) < self._most:
                found.append(self._waiting.get(timeout=max(0.0, last - time.monotonic())))
        except queue.Empty:
            pass
        return found


def _classify(model: TrainedModel, requests: Sequence[_Request]) -> list[Answer]:
    images = torch.stack([request.image for request in requests])
    logits, away = model.logits_and_distances(images)
    probabilities = model.probabilities(logits)
    explained = [place for place, request in enumerate(requests) if request.explain]
    maps = iter(gradcam(model, images[explained], probabilities[explained].argmax(1)) if explained else ())
    heatmaps = [next(maps) if request.explain else None for request in requests]
    nothing = [None] * len(requests)
    sets = nothing if isinstance(model.limits.sets, str) else model.sets(logits)
    distances = nothing if away is None else away.tolist()
    return list(map(Answer, probabilities, heatmaps, sets, distances))
