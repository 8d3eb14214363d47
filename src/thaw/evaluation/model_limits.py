"""What a model knows about its limits, learned from validation images: prediction sets and the distance of images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch

from thaw.errors import UserError
from thaw.evaluation.image_distance import ImageDistance, fitted_distance
from thaw.evaluation.prediction_sets import PredictionSets, fitted_sets
from thaw.evaluation.predictions import Predictions

_Part = TypeVar("_Part")
_OLDER = "an older version of Thaw trained it: train it again"


@dataclass(frozen=True)
class ModelLimits:
    """Prediction sets and image distance of a model; each is replaced by the reason if the model has none."""

    sets: PredictionSets | str = _OLDER
    distance: ImageDistance | str = _OLDER

    def required_sets(self) -> PredictionSets:
        """Return the prediction sets, or raise UserError with the reason why there are none."""
        if isinstance(self.sets, str):
            raise UserError(f"the model has no prediction sets, because {self.sets}.")
        return self.sets

    def required_distance(self) -> ImageDistance:
        """Return the image distance, or raise UserError with the reason why there is none."""
        if isinstance(self.distance, str):
            raise UserError(f"the model cannot recognise unknown images, because {self.distance}.")
        return self.distance

    def described(self) -> dict[str, object]:
        """Return tensors and plain values for a checkpoint, from which `read_limits` makes these limits."""
        parts = {"sets": self.sets, "distance": self.distance}
        return {name: part if isinstance(part, str) else part.state_dict() for name, part in parts.items()}


def fitted_limits(held_out: Predictions, features: torch.Tensor | None, rows: torch.Tensor) -> ModelLimits:
    """Return the limits of a model, fitted on its predictions for validation images with cross-fitted temperatures.

    `features`, float (k, D), are inputs of the head for the images `rows`, int64 (k,), or None if they are not known.
    """
    if features is None:
        return ModelLimits(fitted_sets(held_out), "its network is compiled, which hides the input of the head")
    return ModelLimits(fitted_sets(held_out), fitted_distance(features, torch.from_numpy(held_out.labels)[rows]))


def read_limits(described: Mapping) -> ModelLimits:
    """Return the limits in a checkpoint's description of its model."""
    return ModelLimits(_read(PredictionSets, described.get("sets")), _read(ImageDistance, described.get("distance")))


def _read(kind: Callable[..., _Part], entry: Mapping | str | None) -> _Part | str:
    if entry is None or isinstance(entry, str):
        return entry or _OLDER
    try:
        return kind(**entry)
    except (KeyError, TypeError):  # the entry of another version has other tensors
        return "another version of Thaw trained it: train it again"
