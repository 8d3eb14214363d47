"""What a run has learned, ready for images that it has never seen."""

import os
from collections.abc import Callable, Iterator, Sequence
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
from thaw.data.transforms import eval_transform, read_size
from thaw.errors import RunError, UserError
from thaw.features.prefix import FrozenPrefix
from thaw.models.backbones import build_net, is_own
from thaw.models.staged import StagedNet
from thaw.runs.configuration import FILE, is_run, read_resolved
from thaw.runs.summary import read_summary
from thaw.runs.targets import refuse_foreign_targets
from thaw.storage.checkpoints import read_checkpoint
from thaw.training.hardware import best_precision, keep_freed_memory, memory_format

BEST, LAST = Path("checkpoints") / "best.ckpt", Path("checkpoints") / "last.ckpt"


@dataclass(frozen=True)
class TrainedModel:
    """A net and all that is needed to use it: the names of its classes, and how an image becomes its input.

    `preprocessing` is that of validation. Logits are divided by `temperature`, which changes no predicted class.
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
        """uint8 (3, crop, crop) of an image file, as validation reads it.

        `source` and `formats` are those of `load_rgb`.

        Raises:
            UnreadableImageError: naming the path.

        """
        seen = self.preprocessing
        return self.transform(load_rgb(source, read_size(seen.resize), formats, seen.grey_range))

    def pixels(self, image: Image.Image) -> torch.Tensor:
        """Return uint8 (3, crop, crop) of a PIL image, the same as of a lossless file with its pixels."""
        seen = self.preprocessing
        return self.transform(upright_rgb(image.copy(), read_size(seen.resize), seen.grey_range))

    @cached_property
    def transform(self) -> Callable[[Image.Image], torch.Tensor]:
        """PIL image -> uint8 (3, crop, crop)."""
        return eval_transform(self.preprocessing)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (N, 3, crop, crop) -> float32 (N, classes), both on the CPU; undivided."""
        images = images.to(self.device)
        with torch.inference_mode():
            given = self.prefix(images) if self.prefix else images
            with self.context():
                return self.net(given, self.prefix.cut if self.prefix else None).float().cpu()

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Float (N, classes), calibrated."""
        return (logits / self.temperature).softmax(1)


def load_model(run: str | Path, exact: bool = False, device: str = "auto") -> TrainedModel:
    """The best weights of a run's folder, or of a checkpoint file; `auto` is a GPU if there is one.

    It computes as the run did when it made its predictions, in bfloat16, say, where the device is quick in it; with
    `exact` plainly and in float32.

    Raises:
        UserError: if there is no such run, it has not saved anything yet, or its net cannot be built.
        RunError: for a checkpoint that is damaged.

    """
    path = checkpoint_path(Path(run).expanduser())
    checkpoint = read_checkpoint(path)
    described = checkpoint.get("thaw")
    if not described or not described["preprocessing"]:
        raise UserError(f"{path} is no checkpoint of a run of Thaw's: it does not say what its classes are.")
    net = _built(path, described["model"])
    _fill(net, checkpoint["state_dict"], path)
    keep_freed_memory()
    device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    net = net.eval().to(device, memory_format=memory_format())
    context, cut = nullcontext, None if exact else described.get("cut")
    if described.get("precision") == "bf16-mixed" == best_precision(device.type) and not exact:
        context = partial(torch.autocast, device.type, torch.bfloat16)
    return TrainedModel(
        net,
        described["classes"],
        Preprocessing(**described["preprocessing"]),
        described.get("temperature", 1.0),
        device,
        path,
        context,
        FrozenPrefix(net, cut, device, context) if cut else None,
    )


def checkpoint_path(run: Path) -> Path:
    """Raises: UserError: if there is none."""
    if os.path.isfile(run):  # not Path's own, which raises for names that are too long
        return run
    if os.path.isdir(run):
        if best := best_file(run):
            return best
        _refuse_several(run)
        _refuse_unnamed(run)
    raise UserError(
        f"there is no trained model in {run}: name the folder of a run, which holds {BEST}, or a checkpoint file."
    )


def best_file(run: Path) -> Path | None:
    """The checkpoint in a run's folder that its summary is of; of a run that has not finished, the best so far.

    Raises:
        UserError: if the summary names a file that is no longer there.

    """
    summary = read_summary(run)
    if named := summary.get("checkpoint"):
        if (run / named).is_file():
            return run / named
        if summary.get("status") == "finished":
            raise UserError(f"the best weights of {run} are {named}, by its summary.json, and there is no such file.")
    candidates = (*_saved_best(run), run / BEST)
    return next((path for path in candidates if path.is_file()), None)


def _saved_best(run: Path) -> Iterator[Path]:
    """What a run's last checkpoint says is the best; a run that was killed has no summary."""
    last = run / LAST
    if last.is_file():
        with suppress(RunError):
            for state in read_checkpoint(last).get("callbacks", {}).values():
                if state.get("monitor") and state.get("best_model_path"):
                    yield last.parent / os.path.relpath(state["best_model_path"], state["dirpath"])


def _refuse_several(folder: Path) -> None:
    places = {path.parent.parent for pattern in (BEST, FILE) for path in folder.glob(f"**/{pattern}")}
    runs = sorted(place for place in places if best_file(place))
    if runs:
        named = ", ".join(map(str, runs[:8])) + (", …" if len(runs) > 8 else "")
        raise UserError(f"{folder} holds {len(runs)} runs; choose one of {named}.")


def _refuse_unnamed(run: Path) -> None:
    found = sorted(path for path in (run / LAST).parent.glob("**/*.ckpt") if path != run / LAST)
    if found:
        raise UserError(
            f"{run} has not finished, and does not say which of its checkpoints is the best; name the file: "
            f"{', '.join(map(str, found[:8]))}."
        )


def run_folder(checkpoint: Path) -> Path:
    """Of the run that saved it; the folder it lies in, for a checkpoint that was taken out of one."""
    run = next((folder for folder in list(checkpoint.parents)[:4] if is_run(folder)), None)
    return run or (checkpoint.parent.parent if checkpoint.parent.name == BEST.parent.name else checkpoint.parent)


def _fill(net: StagedNet, state: dict[str, torch.Tensor], path: Path) -> None:
    """With a classifier's `state`, in which the net is one part."""
    prefix = "net."
    try:
        net.load_state_dict({key.removeprefix(prefix): t for key, t in state.items() if key.startswith(prefix)})
    except RuntimeError as error:
        raise RunError(f"the weights in {path} do not fit the net {net.config['name']} that it names.") from error


def _built(path: Path, config: dict) -> StagedNet:
    """Build the net as the run did: a net of one's own with the code that its configuration names."""
    run = run_folder(path)
    builder = read_resolved(run)["model"]["_target_"] if is_run(run) else None
    if not is_own(builder):
        return build_net(**config)
    refuse_foreign_targets({"model": {"_target_": builder}})
    return get_object(builder)(**config)
