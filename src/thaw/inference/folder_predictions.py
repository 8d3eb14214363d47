"""Predict the classes of a folder's images and of corrupted copies of these images."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from tqdm import tqdm

from thaw.data.folders import Sample
from thaw.data.label_sets import ONE_CLASS, LabelSets
from thaw.data.workers import in_threads_ahead, inference_batch_size
from thaw.errors import UnreadableImageError, UserError
from thaw.evaluation.corruptions import Corruption
from thaw.evaluation.judgement import AnyPredictions
from thaw.evaluation.label_predictions import LabelPredictions
from thaw.evaluation.predictions import Predictions, joined
from thaw.inference.trained_model import TrainedModel

_Judged = tuple[np.ndarray, np.ndarray]  # whether N predictions are correct, bool (N,); their confidences, float (N,)


@dataclass(frozen=True)
class FolderPredictions:
    """Calibrated predictions for the readable images of a folder.

    `corrupted` has one pair of arrays per corruption: whether the predictions are correct, bool (N,), and their
    confidences, float (N,). `faults` has a sentence for each unreadable image. `distances`, float (N,), are those of
    the clean images from the validation images, or None if the model has no image distance.
    """

    clean: AnyPredictions
    corrupted: Sequence[_Judged]
    faults: Sequence[str]
    distances: np.ndarray | None


def predict_folder(
    model: TrainedModel, samples: Sequence[Sample], corruptions: Sequence[Corruption], label_sets: LabelSets = ONE_CLASS
) -> FolderPredictions:
    """Return the predictions for `samples` and their corrupted copies; each file is decoded only once.

    `label_sets` explains the samples' labels. With several classes per image, there can be no `corruptions`.

    Raises:
        UserError: if none of the images can be read.

    """
    kept, faults, clean, distances = list[Sample](), list[str](), list[torch.Tensor](), list[torch.Tensor]()
    judged: list[list[_Judged]] = [[] for _ in corruptions]  # logits of corrupted images are not kept, to save memory
    size, views_each = inference_batch_size(model.preprocessing.crop), 1 + len(corruptions)
    progress = {"total": len(samples) * views_each, "unit": "image", "disable": not sys.stderr.isatty()}
    with tqdm(desc="evaluating", leave=False, **progress) as bar:

        def skip(error: UnreadableImageError) -> None:
            faults.append(str(error))
            bar.update(views_each)

        crops = _readable(model, samples, corruptions, size, skip)
        while batch := list(islice(crops, size)):
            labels = np.array([label for (_, label), _ in batch])
            kept += [sample for sample, _ in batch]
            for place, images in enumerate(zip(*(views for _, views in batch), strict=True)):
                logits, away = model.logits_and_distances(torch.stack(images), wanted=not place)
                if place:
                    changed = _single(model, (), labels, logits.numpy())
                    judged[place - 1].append((changed.right, changed.confidence))
                else:
                    clean.append(logits)
                    distances += [] if away is None else [away]
                bar.update(len(images))
    if not kept:
        none = f"none of the {len(samples)} images can be read; the first: " if len(samples) > 1 else ""
        raise UserError(f"{none}{faults[0]}")
    whole = [(np.concatenate([one[0] for one in each]), np.concatenate([one[1] for one in each])) for each in judged]
    away = torch.cat(distances).numpy() if distances else None
    return FolderPredictions(_calibrated(model, kept, joined(clean), label_sets), whole, faults, away)


def _calibrated(
    model: TrainedModel, samples: Sequence[Sample], logits: np.ndarray, label_sets: LabelSets
) -> AnyPredictions:
    paths, labels = zip(*samples, strict=True)
    if model.thresholds is None:
        return _single(model, paths, np.array(labels), logits)
    temperature, thresholds = (torch.as_tensor(one).double().numpy() for one in (model.temperature, model.thresholds))
    return LabelPredictions(paths, label_sets.matrix(labels), logits, model.classes, temperature, thresholds)


def _single(model: TrainedModel, paths: Sequence[str], labels: np.ndarray, logits: np.ndarray) -> Predictions:
    assert not isinstance(model.temperature, torch.Tensor)
    return Predictions(paths, labels, logits, model.classes, model.temperature)


def _readable(
    model: TrainedModel,
    samples: Sequence[Sample],
    corruptions: Sequence[Corruption],
    ahead: int,
    skip: Callable[[UnreadableImageError], object],
) -> Iterator[tuple[Sample, list[torch.Tensor]]]:
    """Yield each readable sample with its clean and corrupted crops; threads read up to `ahead` samples in advance."""

    def views(place: int) -> list[torch.Tensor] | UnreadableImageError:
        try:
            crop = model.read(samples[place][0])
        except UnreadableImageError as error:
            return error
        return [crop, *(corruption(crop, place) for corruption in corruptions)]

    for sample, result in zip(samples, in_threads_ahead(views, range(len(samples)), ahead), strict=True):
        if isinstance(result, UnreadableImageError):
            skip(result)
        else:
            yield sample, result
