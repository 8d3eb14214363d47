"""Predict the classes of images with a trained model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from thaw.data.label_sets import SEPARATOR
from thaw.data.workers import best_workers, inference_batch_size
from thaw.errors import UnreadableImageError
from thaw.inference.trained_model import TrainedModel

UNSURE = "unsure"
NONE = "none of these"  # in place of a class for an image that belongs to none of the classes

# Path or index, image as uint8 (3, S, S), and fault; the image is None if there is a fault.
ReadImage = tuple[str, torch.Tensor | None, str]


@dataclass(frozen=True)
class Prediction:
    """Prediction for one image.

    `top` has the most probable classes with their calibrated probabilities, the most probable first. If asked for,
    `within` has the classes of the prediction set, the most probable first, and `distance` is the distance from the
    validation images; above 1, the image belongs to none of the classes. For an unreadable file, `top` is empty and
    `fault` is a sentence with the reason. If images can have several classes, `decided` has those that are predicted,
    in the order of the model's classes, `top` starts with these, and `least` is the probability of the least certain
    decision.
    """

    path: str
    top: Sequence[tuple[str, float]] = ()
    fault: str = ""
    within: Sequence[str] | None = None
    distance: float | None = None
    decided: Sequence[str] | None = None
    least: float | None = None

    @property
    def confidence(self) -> float:
        """Probability of the predicted class, or of the least certain decision about one of several classes."""
        return self.top[0][1] if self.least is None else self.least

    @property
    def unknown(self) -> bool:
        return self.distance is not None and self.distance > 1

    def named(self, threshold: float) -> str:
        """Return `none of these` for an unknown image, `unsure` below the probability `threshold`, else the class.

        Several classes are joined by |; `none of these` is also returned for an image without a class.
        """
        if self.decided is not None:
            return SEPARATOR.join(self.decided) or NONE
        name, probability = self.top[0]
        return NONE if self.unknown else name if probability >= threshold else UNSURE


def predict(
    model: TrainedModel,
    images: str | Path | Image.Image | np.ndarray | Sequence,
    top: int = 1,
    coverage: float | None = None,
    unknown: bool = False,
) -> list[Prediction]:
    """Return a prediction for each of `images`, in order. `images` may also be one image; the result is still a list.

    An image is a path, a PIL image, or an array: uint8 (H, W, 3) in RGB, or (H, W) in grey with any number of bits.
    `top` is the number of classes per prediction. For an array or PIL image, `Prediction.path` is its index. With a
    `coverage` between 0 and 1, predictions have sets; with `unknown`, they have distances.

    Raises:
        ValueError: if an array is not an image, or the coverage is not above 0 and below 1.
        UserError: if the model has no prediction sets or no image distance, and they are asked for.

    """
    several = list(images) if isinstance(images, Sequence) and not isinstance(images, str) else [images]
    opened = [_opened(image) for image in several]
    return list(predictions(model, opened, min(top, len(model.classes)), coverage, unknown))


def _opened(image: str | Path | Image.Image | np.ndarray) -> str | Image.Image:
    if isinstance(image, np.ndarray):
        try:
            return Image.fromarray(image)
        except TypeError as error:
            raise ValueError(
                f"an array {image.dtype} {image.shape} is not an image; images are uint8 (H, W, 3), or (H, W) in grey."
            ) from error
    return image if isinstance(image, Image.Image) else str(image)


def predictions(
    model: TrainedModel,
    paths: Sequence[str | Image.Image],
    top: int = 1,
    coverage: float | None = None,
    unknown: bool = False,
) -> Iterator[Prediction]:
    """Yield a prediction for each path or PIL image, in order, as soon as its batch is computed.

    The other arguments, and errors, are those of `predict`.
    """
    if coverage is not None:
        if not (isinstance(coverage, float) and 0 < coverage < 1):
            raise ValueError(f"coverage={coverage!r} must be a number above 0 and below 1.")
        model.limits.required_sets()
    if unknown:
        model.limits.required_distance()
    for batch in read_batches(model, paths):
        pixels = [image for _, image, _ in batch if image is not None]
        found = iter(_predicted(model, torch.stack(pixels), top, coverage, unknown) if pixels else ())
        for path, _, fault in batch:
            yield Prediction(path, fault=fault) if fault else replace(next(found), path=path)


def read_batches(model: TrainedModel, images: Sequence[str | Image.Image]) -> Iterator[list[ReadImage]]:
    """Yield batches of read images, in order."""
    size, workers = inference_batch_size(model.preprocessing.crop), best_workers(torch.cuda.is_available())
    yield from DataLoader(_Images(model, images), size, num_workers=workers, collate_fn=list)


def _predicted(
    model: TrainedModel, images: torch.Tensor, top: int, coverage: float | None, unknown: bool
) -> Iterator[Prediction]:
    logits, distances = model.logits_and_distances(images, unknown)
    probabilities = model.probabilities(logits)
    sets = None if coverage is None else model.sets(logits, coverage)
    # Sort logits, not probabilities, because several probabilities may round to the same 0 or 1.
    orders = (probabilities if model.several else logits).sort(dim=1, descending=True, stable=True).indices
    for place, (row, order) in enumerate(zip(probabilities, orders, strict=True)):
        decided, least, most = None, None, top
        if model.several:
            chosen, least = model.decision(row)
            decided = _names(model, chosen.nonzero())
            order, most = order[chosen[order].logical_not().int().argsort(stable=True)], max(top, len(decided))
        ranked = [(str(model.classes[int(index)]), float(row[index])) for index in order[:most]]
        within = None if sets is None else _names(model, order[sets[place][order]])
        yield Prediction("", ranked, "", within, None if distances is None else float(distances[place]), decided, least)


def _names(model: TrainedModel, places: torch.Tensor) -> list[str]:
    return [str(model.classes[int(place)]) for place in places]


class _Images(Dataset):
    """Dataset of images that are read when they are asked for."""

    def __init__(self, model: TrainedModel, images: Sequence[str | Image.Image]):
        self._model, self._images = model, images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> ReadImage:
        image = self._images[index]
        if isinstance(image, Image.Image):
            return str(index), self._model.pixels(image), ""
        try:
            return image, self._model.read(image), ""
        except UnreadableImageError as error:
            return image, None, str(error)
