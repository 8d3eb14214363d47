"""Load a trained model from a run's folder or a checkpoint."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
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
from thaw.features.prefix import FrozenPrefix
from thaw.models.backbones import build_net, is_own
from thaw.models.staged import StagedNet
from thaw.runs import run_files
from thaw.runs.configuration import is_run, read_resolved
from thaw.runs.summary import read_summary
from thaw.runs.targets import refuse_foreign_targets
from thaw.storage.checkpoints import read_checkpoint
from thaw.training.hardware import best_precision, keep_freed_memory, memory_format

BEST, LAST = Path(run_files.BEST), Path(run_files.LAST)


@dataclass(frozen=True)
class TrainedModel:
    """Trained network with its class names, validation preprocessing and calibration temperature.

    Probabilities are the softmax of logits / `temperature`. The temperature does not change the predicted class.
    """

    net: StagedNet
    classes: Sequence[str]
    preprocessing: Preprocessing
    temperature: float
    device: torch.device
    source: Path
    context: Callable[[], AbstractContextManager] = nullcontext
    prefix: FrozenPrefix | None = None

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

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Return calibrated probabilities, float (N, classes)."""
        return (logits / self.temperature).softmax(1)


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
        described.get("temperature", 1.0),
        target,
        path,
        context,
        FrozenPrefix(net, cut, target, context) if cut else None,
    )


def checkpoint_path(run: Path) -> Path:
    """Return the best checkpoint in a run's folder, or `run` itself if it is a file.

    Raises:
        UserError: if there is no checkpoint, or if it is not clear which checkpoint is the best.

    """
    if os.path.isfile(run):  # Path.is_file raises an error if the name is too long
        return run
    if os.path.isdir(run):
        run = _model_of_search(run)
        if best := best_file(run):
            return best
        _refuse_several(run)
        _refuse_unnamed(run)
    raise UserError(
        f"there is no trained model in {run}; choose the folder of a run, which contains {BEST}, or a checkpoint file."
    )


def _model_of_search(folder: Path) -> Path:
    """Return the run that a search in `folder` recommends, or `folder` itself if there is no search."""
    path = folder / run_files.SEARCH
    model = json.loads(path.read_text(encoding="utf-8")).get("model") if path.is_file() else None
    return folder / model if model else folder


def best_file(run: Path) -> Path | None:
    """Return the best checkpoint: the one that the run's summary names, or the best so far of an unfinished run.

    Raises:
        UserError: if the file that the summary names is missing.

    """
    summary = read_summary(run)
    if named := summary.get("checkpoint"):
        if (run / named).is_file():
            return run / named
        if summary.get("status") == "finished":
            raise UserError(f"`summary.json` of {run} names {named} as the best weights, but that file is missing.")
    candidates = (*_saved_best(run), run / BEST)
    return next((path for path in candidates if path.is_file()), None)


def _saved_best(run: Path) -> Iterator[Path]:
    """Yield the path of the best checkpoint from the last checkpoint, because a killed run has no summary."""
    last = run / LAST
    if last.is_file():
        with suppress(RunError):
            for state in read_checkpoint(last).get("callbacks", {}).values():
                if state.get("monitor") and state.get("best_model_path"):
                    yield last.parent / os.path.relpath(state["best_model_path"], state["dirpath"])


def _refuse_several(folder: Path) -> None:
    places = {path.parent.parent for pattern in (BEST, run_files.RESOLVED) for path in folder.glob(f"**/{pattern}")}
    runs = sorted(place for place in places if best_file(place))
    if runs:
        named = ", ".join(map(str, runs[:8])) + (", …" if len(runs) > 8 else "")
        raise UserError(f"{folder} holds {len(runs)} runs; choose one of {named}.")


def _refuse_unnamed(run: Path) -> None:
    found = sorted(path for path in (run / LAST).parent.glob("**/*.ckpt") if path != run / LAST)
    if found:
        raise UserError(
            f"{run} has not finished and does not record which of its checkpoints is the best; name the file: "
            f"{', '.join(map(str, found[:8]))}."
        )


def run_folder(checkpoint: Path) -> Path:
    """Return the folder of the run that saved a checkpoint, or the folder of the checkpoint if it was moved."""
    run = next((folder for folder in list(checkpoint.parents)[:4] if is_run(folder)), None)
    return run or (checkpoint.parent.parent if checkpoint.parent.name == BEST.parent.name else checkpoint.parent)


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
