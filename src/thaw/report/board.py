"""What TensorBoard shows beside the curves: pictures, values of the runs side by side, and how the net sees images."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from lightning import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.tensorboard.summary import hparams

from thaw.models.staged import StagedNet
from thaw.report.evaluation import Evaluation

_LAYOUT = {
    "training against validation": {
        "loss": ["Multiline", ["train/loss", "val/loss"]],
        "accuracy": ["Multiline", ["train/acc", "val/acc"]],
    }
}
_PROJECTED_IMAGES, _PROJECTED_NUMBERS = 1000, 1_000_000  # the projector reads them as text


def lay_out(trainer: Trainer) -> None:
    """Training and validation in one chart each, under Custom Scalars."""
    for board in _boards(trainer):
        board.experiment.add_custom_scalars(_LAYOUT)


def show(trainer: Trainer, name: str, pixels: np.ndarray) -> None:
    """A picture, uint8 (height, width, 3)."""
    for board in _boards(trainer):
        board.experiment.add_image(name, pixels, trainer.global_step, dataformats="HWC")
        board.experiment.flush()


@rank_zero_only
def record_values(trainer: Trainer, values: Mapping[str, object], summary: dict) -> None:
    """What a finished run was told, and what came of it, for the tab HParams.

    Which values differ between runs, and come first, TensorBoard finds out by itself unless a run describes them all.
    """
    reached = {"best/val/acc": summary["val"]["acc"], "cost/seconds": summary["seconds"]["total"]}
    _description, start, end = hparams(dict(values), reached)
    for board in _boards(trainer):
        board.log_metrics(reached, trainer.global_step)
        board.experiment.file_writer.add_summary(start)
        board.experiment.file_writer.add_summary(end)
        board.finalize("success")


@contextmanager
def head_inputs(net: StagedNet) -> Iterator[list[torch.Tensor]]:
    """A list of what goes into the net's head while this lasts: float32 (N, D) on the CPU, for each batch."""
    seen: list[torch.Tensor] = []

    def keep(head: torch.nn.Module, given: tuple) -> None:
        maps = given[0].detach().float()
        # Where the head begins with maps or tokens, their means are what it is about.
        vectors = maps.flatten(2).mean(2) if maps.ndim > 2 else maps
        seen.append(vectors.cpu())

    with net.stage_modules(net.head_name)[0].register_forward_pre_hook(keep):
        yield seen


def project(trainer: Trainer, features: Sequence[torch.Tensor], evaluation: Evaluation, root: Path) -> None:
    """Images as points, near each other where the net's head can hardly tell them apart, for the tab Projector.

    `features` are `head_inputs` of the images of `evaluation`, in their order. Of many images some are shown, evenly
    spread over the classes' folders.
    """
    points = torch.cat(list(features)) if features else torch.empty(0, 1)
    images = len(evaluation.labels)
    if len(points) != images:  # a compiled net tells nothing of what goes on inside
        return
    most = min(images, _PROJECTED_IMAGES, max(_PROJECTED_NUMBERS // points.shape[1], 1))
    chosen = torch.linspace(0, images - 1, most).round().long()
    names = evaluation.classes
    rows = [
        [
            names[evaluation.labels[i]],
            names[evaluation.predicted[i]],
            Path(evaluation.paths[i]).relative_to(root).as_posix(),
        ]
        for i in chosen.tolist()
    ]
    for board in _boards(trainer):
        board.experiment.add_embedding(
            points[chosen].double().round(decimals=4),
            metadata=rows,
            metadata_header=["class", "predicted", "path"],
            tag="validation_images",
            global_step=trainer.global_step,
        )
        board.experiment.flush()


def _boards(trainer: Trainer) -> list[TensorBoardLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
