"""What holds in every run: what is frozen stays as it is, and chance depends on the seed and the step alone."""

import hashlib

import numpy as np
import torch
from lightning import Callback
from torch import nn

from thaw.errors import FrozenTensorError
from thaw.strategy.freezing import frozen_tensors


class FrozenProof(Callback):
    """Compares every frozen tensor, bit by bit, before and after a phase.

    Raises:
        FrozenTensorError: naming a tensor that has changed.

    """

    def on_train_start(self, trainer, classifier) -> None:
        self._before = digests(classifier.net, frozen_tensors(classifier.net))

    def on_train_end(self, trainer, classifier) -> None:
        after = digests(classifier.net, self._before)
        for name in (name for name in after if after[name] != self._before[name]):
            first, last = classifier.phase.first + 1, classifier.phase.last
            raise FrozenTensorError(f"the frozen tensor {name} changed between the epochs {first} and {last}.")


class SeededSteps(Callback):
    """Seeds every step by itself, so that a run that is continued draws what an unbroken one draws."""

    def on_train_batch_start(self, trainer, classifier, batch, index) -> None:
        root = np.random.SeedSequence((trainer.datamodule.seed, trainer.current_epoch, index, trainer.global_rank))
        torch.manual_seed(int(root.generate_state(1)[0]))


def digests(net: nn.Module, names) -> dict[str, str]:
    """The SHA-256 of each named parameter or buffer."""
    tensors = dict(net.named_parameters()) | dict(net.named_buffers())
    return {name: _digest(tensors[name]) for name in names}


def _digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()).hexdigest()
