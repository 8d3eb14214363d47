"""One thread that owns the net: images that wait are classified together."""

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
    """As much is waiting as may wait."""


@dataclass(frozen=True)
class Answer:
    """Of one image: calibrated probabilities, float (classes,); with `explain` the map of Grad-CAM, float (S, S)."""

    probabilities: torch.Tensor
    heat: torch.Tensor | None = None


@dataclass(frozen=True)
class _Question:
    image: torch.Tensor
    explain: bool
    answer: "Future[Answer]" = field(default_factory=Future)


class Batcher:
    """Classifies up to `most` images at once, for the first of which the others are awaited for `wait` seconds.

    At most `capacity` images wait; `sizes` counts the batches of each size. Grad-CAM puts hooks into the net, so it is
    computed in the same thread.
    """

    def __init__(self, model: TrainedModel, most: int = 16, wait: float = 0.005, capacity: int = 64):
        self.sizes: dict[int, int] = {}
        self._model, self._most, self._wait = model, most, wait
        self._waiting: queue.Queue[_Question | None] = queue.Queue(capacity)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many images no batch has yet."""
        return self._waiting.qsize()

    def submit(self, image: torch.Tensor, explain: bool = False) -> "Future[Answer]":
        """An image is uint8 (3, S, S), as `TrainedModel.read` gives it.

        Raises: BusyError: if too many wait already.
        """
        question = _Question(image, explain)
        try:
            self._waiting.put_nowait(question)
        except queue.Full as error:
            raise BusyError from error
        return question.answer

    def close(self, seconds: float = 5.0) -> None:
        """Ends the thread after its batch, within `seconds` if it can; what waits is not answered."""
        self._closed.set()
        self._thread.join(seconds)

    def _work(self) -> None:
        while not self._closed.is_set():
            questions = [question for question in self._batch() if question.answer.set_running_or_notify_cancel()]
            if not questions:
                continue
            self.sizes[len(questions)] = self.sizes.get(len(questions), 0) + 1
            try:
                answers = answered(self._model, questions)
            except Exception as error:  # of this batch alone, such as too little memory: whoever asked is told
                for question in questions:
                    question.answer.set_exception(error)
                continue
            for question, answer in zip(questions, answers, strict=True):
                question.answer.set_result(answer)

    def _batch(self) -> list[_Question]:
        found: list[_Question] = []
        try:
            found.append(self._waiting.get(timeout=0.2))  # not for ever: closing is looked for in between
            last = time.monotonic() + self._wait
            while len(found) < self._most:
                found.append(self._waiting.get(timeout=max(0.0, last - time.monotonic())))
        except queue.Empty:
            pass
        return found


def answered(model: TrainedModel, questions: Sequence[_Question]) -> list[Answer]:
    images = torch.stack([question.image for question in questions])
    probabilities = model.probabilities(model.logits(images))
    heats: list[torch.Tensor | None] = [None] * len(questions)
    explained = [place for place, question in enumerate(questions) if question.explain]
    if explained:
        maps = gradcam(model, images[explained], probabilities[explained].argmax(1))
        for place, heat in zip(explained, maps, strict=True):
            heats[place] = heat
    return list(map(Answer, probabilities, heats))
