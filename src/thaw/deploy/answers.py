"""What a trained model says of the images of a folder, and of the same images made worse."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import torch
from tqdm import tqdm

from thaw.data.folders import Sample
from thaw.data.workers import roomy_batch_size, usable_cores
from thaw.deploy.robustness import Corruption
from thaw.deploy.trained import TrainedModel
from thaw.errors import UnreadableImageError, UserError


@dataclass(frozen=True)
class Answers:
    """`logits` are float32 (N, classes) of the images that could be read, `samples`, undivided by the temperature.

    `corrupted` are the same of each corruption. `faults` has a sentence for each image that could not be read.
    """

    samples: Sequence[Sample]
    logits: torch.Tensor
    corrupted: Sequence[torch.Tensor]
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
    logits: list[list[torch.Tensor]] = [[] for _ in (None, *corruptions)]
    total = len(samples) * len(logits)
    with tqdm(desc="evaluating", total=total, unit="image", leave=False, disable=not sys.stderr.isatty()) as bar:

        def views(place: int) -> list[torch.Tensor]:
            crop = model.read(samples[place][0])
            return [crop, *(corruption(crop, place) for corruption in corruptions)]

        def readable() -> Iterator[list[torch.Tensor]]:
            for sample, (found, fault) in zip(samples, _in_order(views, range(len(samples)), size), strict=True):
                if fault is None:
                    kept.append(sample)
                    yield found
                else:
                    faults.append(str(fault))
                    bar.update(len(logits))

        crops = readable()
        while batch := list(islice(crops, size)):
            for place, images in enumerate(zip(*batch, strict=True)):
                logits[place].append(model.logits(torch.stack(images)))
                bar.update(len(images))
    if not kept:
        raise UserError(f"none of the {len(samples)} images can be read; the first: {faults[0]}")
    clean, *corrupted = map(torch.cat, logits)
    return Answers(kept, clean, corrupted, faults)


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
