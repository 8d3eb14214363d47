"""What a trained model computes for images: the features before its head, and probabilities."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from thaw.inference.predict import read_batches
from thaw.inference.trained_model import TrainedModel
from thaw.models.head import observed_head


@dataclass(frozen=True)
class Described:
    """Readable images: paths, features, float32 (n, D), and calibrated probabilities, float32 (n, classes).

    `faults` has a sentence for each image that cannot be read.
    """

    paths: Sequence[str]
    features: np.ndarray
    probabilities: np.ndarray
    faults: Sequence[str]


def described(model: TrainedModel, paths: Sequence[str], title: str) -> Described:
    """Return what `model` computes for the images at `paths`; `title` names the progress bar."""
    kept, faults = list[str](), list[str]()
    features, probabilities = list[torch.Tensor](), list[torch.Tensor]()
    bar = tqdm(desc=title, total=len(paths), unit="image", leave=False, disable=not sys.stderr.isatty())
    with bar, observed_head(model.net, lambda inputs: features.append(inputs.float().cpu())):
        for batch in read_batches(model, paths):
            faults += [fault for _, _, fault in batch if fault]
            kept += [path for path, _, fault in batch if not fault]
            images = [image for _, image, _ in batch if image is not None]
            if images:
                probabilities.append(model.probabilities(model.logits(torch.stack(images))))
            bar.update(len(batch))
    if not kept:
        return Described((), np.zeros((0, 0), np.float32), np.zeros((0, len(model.classes)), np.float32), faults)
    return Described(kept, torch.cat(features).flatten(1).numpy(), torch.cat(probabilities).numpy(), faults)
