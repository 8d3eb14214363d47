"""What a trained model says of image files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader, Dataset

from thaw.data.workers import best_workers, roomy_batch_size
from thaw.errors import UnreadableImageError
from thaw.inference.trained_model import TrainedModel

UNSURE = "unsure"


@dataclass(frozen=True)
class Prediction:
    """Of one file: `top` has the likeliest classes with their calibrated probabilities, the likeliest first.

    `fault` is a sentence in place of them, for a file that cannot be read.
    """

    path: str
    top: Sequence[tuple[str, float]] = ()
    fault: str = ""

    def named(self, threshold: float) -> str:
        """The likeliest class, or `unsure` where its probability is below `threshold`."""
        name, probability = self.top[0]
        return name if probability >= threshold else UNSURE


def predictions(model: TrainedModel, paths: Sequence[str], top: int = 1) -> Iterator[Prediction]:
    """Of every file, in order, as soon as its batch is done."""
    size = roomy_batch_size(model.preprocessing.crop)
    files = _Files(model, paths)
    for batch in DataLoader(files, size, num_workers=best_workers(torch.cuda.is_available()), collate_fn=list):
        images = [image for _, image, fault in batch if not fault]
        found = iter(_likeliest(model, torch.stack(images), top) if images else ())
        for path, _, fault in batch:
            yield Prediction(path, fault=fault) if fault else Prediction(path, next(found))


def _likeliest(model: TrainedModel, images: torch.Tensor, top: int) -> Iterator[list[tuple[str, float]]]:
    logits = model.logits(images)
    probabilities = model.probabilities(logits)
    # By logits, for of probabilities many can be rounded to the same 0 or 1.
    orders = logits.sort(dim=1, descending=True, stable=True).indices[:, :top]
    for row, order in zip(probabilities, orders, strict=True):
        yield [(model.classes[index], row[index].item()) for index in order.tolist()]


class _Files(Dataset):
    def __init__(self, model: TrainedModel, paths: Sequence[str]):
        self._model, self._paths = model, paths

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[str, torch.Tensor | None, str]:
        path = self._paths[index]
        try:
            return path, self._model.read(path), ""
        except UnreadableImageError as error:
            return path, None, str(error)
