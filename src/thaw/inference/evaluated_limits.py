"""Measure on a folder of labelled images, and on foreign images, what a model says about its own limits."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from thaw.errors import UserError
from thaw.evaluation.auroc import auroc
from thaw.evaluation.measures import share
from thaw.evaluation.predictions import Predictions, parts
from thaw.inference.predict import Prediction, predictions
from thaw.inference.trained_model import TrainedModel


@dataclass(frozen=True)
class Foreign:
    """Predictions for the images in `root`, which belong to none of the classes; `faults` of unreadable images."""

    root: Path
    found: Sequence[Prediction]
    faults: Sequence[str]

    @property
    def distances(self) -> np.ndarray:
        return np.array([one.distance for one in self.found])

    @property
    def nearest(self) -> list[Prediction]:
        """The predictions in ascending order of distance."""
        return sorted(self.found, key=lambda one: one.distance or 0.0)


def predict_foreign(model: TrainedModel, root: Path, paths: Sequence[str]) -> Foreign:
    """Return the predictions for the foreign images at `paths`, which are in `root`.

    Raises:
        UserError: if none of them can be read.

    """
    found = list(predictions(model, paths, unknown=True))
    faults = [one.fault for one in found if one.fault]
    if len(faults) == len(found):
        raise UserError(f"no image in --foreign {root} can be read: {faults[0] if faults else 'it has none'}")
    return Foreign(root, [one for one in found if not one.fault], faults)


def measured_sets(model: TrainedModel, clean: Predictions, coverage: float) -> dict | None:
    """Return how often the prediction sets have the true class, and their sizes; None if the model has no sets."""
    if isinstance(model.limits.sets, str):
        return None
    sizes, covered = list[np.ndarray](), list[np.ndarray]()
    for part in parts(*clean.logits.shape):
        sets = model.sets(torch.from_numpy(clean.logits[part]), coverage).numpy()
        sizes.append(sets.sum(1))
        covered.append(sets[np.arange(len(sets)), clean.labels[part]])
    size, right = np.concatenate(sizes), np.concatenate(covered)
    return {
        "coverage": coverage,
        "covered": share(int(right.sum()), len(right)),
        "mean_size": float(size.mean()),
        "images_by_size": {str(n): int(count) for n, count in enumerate(np.bincount(size)) if count},
        "per_class": [
            {"class": name, "covered": share(int(right[own].sum()), int(own.sum())), "mean_size": _mean(size[own])}
            for name, own in ((name, clean.labels == place) for place, name in enumerate(clean.classes))
        ],
    }


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def measured_distances(
    clean: Predictions, root: Path, distances: np.ndarray | None, foreign: Foreign | None, most: int
) -> dict | None:
    """Return the share of images with a distance above 1, and how well the distance separates foreign images.

    `most` is the number of listed images: the farthest of `clean`, whose files are in `root`, and the nearest foreign
    ones. The result is None without `distances`.
    """
    if distances is None:
        return None
    farthest = [
        {
            "path": Path(clean.paths[place]).relative_to(root).as_posix(),
            "label": clean.classes[int(clean.labels[place])],
            "distance": float(distances[place]),
        }
        for place in map(int, np.argsort(-distances, kind="stable")[:most])
        if distances[place] > 1
    ]
    unknown = share(int((distances > 1).sum()), len(distances))
    own = {"unknown": unknown, "farthest": farthest, "foreign": None}
    if foreign is None:
        return own
    others = foreign.distances
    return own | {
        "foreign": {
            "root": str(foreign.root.resolve()),
            "images": len(others),
            "unreadable": list(foreign.faults),
            "unknown": share(int((others > 1).sum()), len(others)),
            "auroc": auroc(distances, others),
            "nearest": [
                {"path": one.path, "predicted": one.top[0][0], "confidence": one.top[0][1], "distance": one.distance}
                for one in foreign.nearest[:most]
            ],
        }
    }
