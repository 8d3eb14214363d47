"""Wrap a model for export, describe the model, and check exports against the checkpoint."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from thaw.errors import RunError, UnreadableImageError, UserError
from thaw.evaluation.model_limits import ModelLimits
from thaw.evaluation.prediction_sets import COVERAGE, class_scores
from thaw.evaluation.predictions_table import read_predictions
from thaw.inference.run_checkpoint import run_folder
from thaw.inference.trained_model import TrainedModel
from thaw.models.head import observed_head
from thaw.runs import run_files
from thaw.runs.summary import read_summary

TOLERANCE = 1e-4  # largest difference in probability that rounding explains
_CHECKED = 64  # number of images to check an export with


class ExportedModel(nn.Module):
    """Module that turns uint8 RGB images (N, S, S, 3), NumPy's layout, into calibrated probabilities (N, classes).

    `temperature` is a number, or float (classes,) if images can have several classes (`several`). With `limits`, it
    returns a tuple: the probabilities, then what the model has of `outputs`: which classes are in the
    prediction set, bool (N, classes), and the distance, float32 (N,).
    """

    temperature: torch.Tensor

    def __init__(self, model: TrainedModel, limits: ModelLimits | None = None):
        super().__init__()
        self.net, self.several = model.net, model.several
        self.register_buffer("temperature", torch.as_tensor(model.temperature, dtype=torch.float32))
        self.sets = limits.sets if limits and not isinstance(limits.sets, str) else None
        self.distance = limits.distance if limits and not isinstance(limits.distance, str) else None
        self.with_limits = limits is not None

    def forward(self, images: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        inputs: list[torch.Tensor] = []
        with nullcontext() if self.distance is None else observed_head(self.net, inputs.append):
            logits = self.net(images.permute(0, 3, 1, 2)) / self.temperature
        found = [logits.sigmoid() if self.several else logits.softmax(1)]
        if self.sets is not None:
            found.append(self.sets(logits))
        if self.distance is not None:
            found.append(self.distance(inputs[0]))
        return tuple(found) if self.with_limits else found[0]


def outputs(limits: ModelLimits) -> list[str]:
    """Return the names of the outputs of an `ExportedModel` with `limits`."""
    named = {"in_set": limits.sets, "distance": limits.distance}
    return ["probabilities", *(name for name, part in named.items() if not isinstance(part, str))]


def facts(model: TrainedModel) -> dict[str, object]:
    """Return the class names, temperature and preprocessing as values for JSON."""
    return {
        "model": model.net.config["name"],
        "classes": list(model.classes),
        "temperature": plain(model.temperature),
        **({} if model.thresholds is None else {"several_classes": True, "thresholds": model.thresholds.tolist()}),
        "preprocessing": {**asdict(model.preprocessing), "mode": "RGB"},
    }


def plain(temperature: float | torch.Tensor) -> float | list[float]:
    return temperature.tolist() if isinstance(temperature, torch.Tensor) else temperature


def example(model: TrainedModel) -> torch.Tensor:
    """Return an example batch of two images, because exporters treat a batch size of 1 as a constant."""
    return torch.zeros(2, model.preprocessing.crop, model.preprocessing.crop, 3, dtype=torch.uint8)


@dataclass(frozen=True)
class Check:
    """Images, uint8 (n, 3, S, S), and the checkpoint's probabilities, with which exports are compared.

    `thresholds` are those of a model whose images can have several classes.
    """

    images: torch.Tensor
    expected: torch.Tensor
    thresholds: torch.Tensor | None = None

    def difference(self, probabilities: torch.Tensor) -> float:
        """Return the largest difference from the expected probabilities.

        Raises:
            RunError: if the difference is larger than `TOLERANCE`, or a predicted class differs.

        """
        largest = (probabilities - self.expected).abs().max().item()
        others = self._others(probabilities)
        if not largest <= TOLERANCE or others:
            raise RunError(
                f"the export differs from the checkpoint by {largest:.2g} in probability; {others} of "
                f"{len(self.expected)} images get another class. The export was deleted, because "
                f"rounding explains at most {TOLERANCE:g}."
            )
        return largest

    def _others(self, probabilities: torch.Tensor) -> int:
        """Return how many images get another class, or other classes than rounding explains."""
        if self.thresholds is None:
            return int((probabilities.argmax(1) != self.expected.argmax(1)).sum())
        near = (self.expected - self.thresholds).abs() < TOLERANCE
        changed = (probabilities >= self.thresholds) != (self.expected >= self.thresholds)
        return int((changed & ~near).any(1).sum())

    def compare_limits(self, model: TrainedModel, found: Mapping[str, torch.Tensor]) -> None:
        """Compare the outputs `in_set` and `distance` of an export, if `found` has them, with those of `model`.

        Raises:
            RunError: if they differ by more than rounding.

        """
        computed = [model.logits_and_distances(part) for part in self.images.split(32)]
        if "in_set" in found:
            sets, logits = model.limits.required_sets(), torch.cat([part for part, _ in computed]) / model.temperature
            near = (class_scores(logits) - sets.threshold(COVERAGE)).abs() < TOLERANCE
            _refuse(int(((found["in_set"] != sets(logits)) & ~near).any(1).sum()), "prediction set")
        if "distance" in found:
            distances = torch.cat([away for _, away in computed if away is not None])
            _refuse(int(((found["distance"] - distances).abs() > 1e-3 * distances).sum()), "distance")

    def batches(self) -> list[torch.Tensor]:
        """Return the images as inputs of an export, uint8 (N, S, S, 3): a batch of one image, then the other images."""
        pixels = self.images.permute(0, 2, 3, 1).contiguous()
        return [part for part in (pixels[:1], *pixels[1:].split(32)) if len(part)]


def _refuse(images: int, what: str) -> None:
    if images:
        raise RunError(f"the export gives {images} images another {what} than the checkpoint; the export was deleted.")


def check(model: TrainedModel, paths: list[str]) -> Check:
    """Compute the checkpoint's probabilities for the images `paths`, or by default for validation images of the run.

    `model` must compute in float32.

    Raises:
        UserError: if none of the images can be read.

    """
    readable = []
    for path in paths or _validation_paths(model):
        try:
            readable.append(model.read(path))
        except UnreadableImageError:
            continue
        if len(readable) == _CHECKED:
            break
    if not readable:
        raise UserError(
            "there are no images to check the export with: the run's validation images are no longer where they were; "
            "choose images with --images PATH."
        )
    images = torch.stack(readable)
    logits = torch.cat([model.logits(part) for part in images.split(32)])
    return Check(images, model.probabilities(logits), model.thresholds)


def _validation_paths(model: TrainedModel) -> list[str]:
    """Return the validation images that still exist, starting with a sample from all classes."""
    run = run_folder(model.source)
    root = read_summary(run).get("data_root")
    if not root:
        return []
    paths = [str(Path(root) / path) for path, *_ in read_predictions(run / run_files.PREDICTIONS)]
    step = max(1, len(paths) // _CHECKED)
    return [path for path in dict.fromkeys((*paths[::step], *paths)) if Path(path).is_file()]
