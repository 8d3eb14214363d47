"""Builds the Lightning Trainer and runs it over the phases of a strategy."""

import hashlib
import logging
import warnings
from collections.abc import Iterable

import torch
from lightning import LightningDataModule, Trainer
from torch import nn

from thaw.errors import RunError
from thaw.models.classifier import ImageClassifier
from thaw.strategy import Phase
from thaw.training.checkpoint_io import AtomicCheckpointIO
from thaw.training.hardware import best_precision, check_accelerator

# What Lightning says of every run of ours, and why it is meant to be so.
_EXPECTED_WARNINGS = (
    r".*does not have many workers.*",  # there are as many as help (thaw.data.datamodule)
    r".*module\(s\) in eval mode.*",  # frozen stages are
    r".*Checkpoint directory .* exists and is not empty.*",  # from the second phase on it does
    r".*LeafSpec.*is deprecated.*",  # Lightning 2.6 asks newer PyTorch in an older way
)


def build_trainer(accelerator: str = "auto", precision: str = "auto", **options) -> Trainer:
    """A Trainer whose precision, if `auto`, is chosen from the hardware; `options` are Lightning's own.

    Raises:
        UserError: if a GPU is asked for and there is none.

    """
    check_accelerator(accelerator)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in _EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message)
    return Trainer(
        accelerator=accelerator,
        precision=best_precision(accelerator) if precision == "auto" else precision,
        enable_progress_bar=False,  # thaw.training.callbacks has one bar for training and validation
        enable_model_summary=False,  # the table of stages says more
        plugins=[AtomicCheckpointIO()],
        num_sanity_val_steps=0,  # folders are checked before, and epochs are short
        **options,
    )


def fit(trainer: Trainer, classifier: ImageClassifier, phases: Iterable[Phase], data: LightningDataModule) -> None:
    """Train phase after phase; epochs and steps count on.

    Raises:
        RunError: if a frozen tensor is not what it was before.

    """
    for phase in phases:
        classifier.start(phase)
        before = digest(classifier.frozen_stages())
        trainer.fit_loop.max_epochs = phase.last
        trainer.fit(classifier, datamodule=data)
        if digest(classifier.frozen_stages()) != before:
            raise RunError(f"a frozen stage changed between the epochs {phase.first + 1} and {phase.last}.")


def digest(stages: dict[str, nn.Module]) -> str:
    """A hash of all parameters and buffers, equal just if every bit is."""
    hashed = hashlib.sha256()
    for name, stage in stages.items():
        for key, tensor in stage.state_dict().items():
            hashed.update(f"{name}.{key}".encode())
            hashed.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return hashed.hexdigest()
