"""Load a trained model from a run's folder or a checkpoint."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import BinaryIO

import torch
from hydra.utils import get_object
from PIL import Image

from thaw.data.images import load_rgb, upright_rgb
from thaw.data.preprocessing import Preprocessing
from thaw.data.transforms import EvalTransform, read_size
from thaw.errors import RunError, UserError
from thaw.evaluation.model_limits import ModelLimits, read_limits
from thaw.evaluation.prediction_sets import COVERAGE
from thaw.features.prefix import FrozenPrefix
from thaw.inference.run_checkpoint import checkpoint_path, run_folder
from thaw.models.backbones import build_net, is_own
from thaw.models.head import observed_head
from thaw.models.staged import StagedNet
from thaw.runs.configuration import is_run, read_resolved
from thaw.runs.targets import refuse_foreign_targets
from thaw.storage.checkpoints import read_checkpoint
from thaw.training.hardware import best_precision, keep_freed_memory, memory_format


@dataclass(frozen=True)
class TrainedModel:
    """Trained network with its class names, validation preprocessing, calibration temperature and limits.

    Probabilities are the softmax of logits / `temperature`. The temperature does not change the predicted class.

    If images can have several classes, probabilities are sigmoids, `temperature` has a value per class, float
    (classes,), and a class is predicted if its probability is at least its value in `thresholds`, float (classes,).
    """

    net: StagedNet
    classes: Sequence[str]
    preprocessing: Preprocessing
    temperature: float | torch.Tensor
    device: torch.device
    source: Path
    context: Callable[[], AbstractContextManager] = nullcontext
    prefix: FrozenPrefix | None = None
    limits: ModelLimits = field(default_factory=ModelLimits)
    thresholds: torch.Tensor | None = None

    @property
    def several(self) -> bool:
        """Whether an image can have several classes."""
        return self.thresholds is not None

    def read(self, source: str | Path | BinaryIO, formats: Sequence[str] | None = None) -> torch.Tensor:
        """Return an image file as uint8 (3, crop, crop), preprocessed as in validation.

        `source` and `formats` are arguments of `thaw.data.images.load_rgb`.

        Raises:
            UnreadableImageError: if the image cannot be read.

        """
        used = self.preprocessing
        return self.transform(load_rgb(source, read_size(used.resize), formats, used.grey_range))

    def pixels(self, image: Image.Image) -> torch.Tensor:
        """Return a PIL image as uint8 (3, crop, crop), like `read` for a lossless file with these pixels."""
        used = self.preprocessing
        return self.transform(upright_rgb(image.copy(), read_size(used.resize), used.grey_range))

    @cached_property
    def transform(self) -> Callable[[Image.Image], torch.Tensor]:
        """Validation transform from a PIL image to uint8 (3, crop, crop)."""
        return EvalTransform(self.preprocessing)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits, float32 (N, classes), of uint8 images (N, 3, crop, crop); both tensors are on the CPU."""
        images = images.to(self.device)
        with torch.inference_mode():
            inputs = self.prefix(images) if self.prefix else images
            with self.context():
                return self.net(inputs, self.prefix.cut if self.prefix else None).float().cpu()

    def logits_and_distances(
        self, images: torch.Tensor, wanted: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return `logits` and the images' distances, float32 (N,); None if not `wanted`, or if the model has none."""
        if not wanted or isinstance(self.limits.distance, str):
            return self.logits(images), None
        inputs: list[torch.Tensor] = []
        with observed_head(self.net, inputs.append):
            logits = self.logits(images)
        return logits, self.limits.distance(torch.cat(inputs).cpu())

    def sets(self, logits: torch.Tensor, coverage: float = COVERAGE) -> torch.Tensor:
        """Return which classes are in the images' prediction sets, bool (N, classes).

        Raises:
            UserError: if the model has no prediction sets.

        """
        return self.limits.required_sets()(logits / self.temperature, coverage)

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Return calibrated probabilities, float (N, classes)."""
        scaled = logits / self.temperature
        return scaled.sigmoid() if self.several else scaled.softmax(1)

    def decision(self, probabilities: torch.Tensor) -> tuple[torch.Tensor, float]:
        """Return which classes of an image are predicted, bool (classes,), if it can have several.

        Also return the probability of the least certain decision. `probabilities` are float (classes,).
        """
        assert self.thresholds is not None
        decided = probabilities >= self.thresholds
        return decided, float(torch.where(decided, probabilities, 1 - probabilities).min())


def load_model(run: str | Path, exact: bool = False, device: str = "auto") -> TrainedModel:
    """Return the model with the best weights of a run's folder, or with the weights of a checkpoint file.

    The model computes in bfloat16 if the run did and bfloat16 is fast on the device, otherwise in float32. With `exact`
    it always computes in float32. `device` is `auto` (a GPU if there is one) or a PyTorch device.

    Raises:
        UserError: if there is no such run, it has no checkpoint yet, its checkpoint is damaged, or its network cannot
            be built.
        RunError: if the weights do not fit the network.

    """
    path = checkpoint_path(Path(run).expanduser())
    try:
        checkpoint = read_checkpoint(path)
    except RunError as error:  # a UserError, because the user chose this file
        raise UserError(str(error)) from error
    described = checkpoint.get("thaw")
    if not described or not described["preprocessing"]:
        raise UserError(f"{path} is not a checkpoint of a Thaw run: it does not contain class names.")
    net = _build(path, described["model"])
    load_weights(net, checkpoint["state_dict"], path)
    keep_freed_memory()
    target = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    net = net.eval().to(target).to(memory_format=memory_format())
    context, cut = nullcontext, None if exact else described.get("cut")
    if described.get("precision") == "bf16-mixed" == best_precision(target.type) and not exact:
        context = partial(torch.autocast, target.type, torch.bfloat16)
    return TrainedModel(
        net,
        described["classes"],
        Preprocessing(**described["preprocessing"]),
        _temperature(described),
        target,
        path,
        context,
        FrozenPrefix(net, cut, target, context) if cut else None,
        read_limits(described),
        _thresholds(described),
    )


def _temperature(described: Mapping) -> float | torch.Tensor:
    found = described.get("temperature", 1.0)
    return torch.tensor(found) if isinstance(found, list) else found


def _thresholds(described: Mapping) -> torch.Tensor | None:
    if not described.get("several"):
        return None
    return torch.tensor(described.get("thresholds", [0.5] * len(described["classes"])))


def load_weights(net: StagedNet, state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Load the weights of a checkpoint, `state`, into `net`; `path` is named in the error.

    Raises:
        RunError: if the weights do not fit the network.

    """
    prefix = "net."
    try:
        net.load_state_dict({key.removeprefix(prefix): t for key, t in state.items() if key.startswith(prefix)})
    except RuntimeError as error:
        raise RunError(f"the weights in {path} do not fit the checkpoint's network, {net.config['name']}.") from error


def _build(path: Path, config: dict) -> StagedNet:
    """Build the network as in the run; a custom network is built by the function in the run's configuration."""
    run = run_folder(path)
    builder = read_resolved(run)["model"]["_target_"] if is_run(run) else None
    if builder is None or not is_own(builder):
        return build_net(**config)
    refuse_foreign_targets({"model": {"_target_": builder}})
    return get_object(builder)(**config)
