"""The network's forward and backward pass of a training step as one CUDA graph each."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from lightning import LightningModule
from torch import nn

from thaw.errors import UserError
from thaw.models.staged import StagedNet

log = logging.getLogger(__name__)


class StepGraph:
    """Replay of the recorded passes for batches of the size of a phase's first one; others run as usual.

    With a small batch, Python takes longer to launch operations than a GPU to compute them. A graph is one launch.
    Results are equal bit for bit. `mode` is true, false or "auto", which records where it is possible: on one CUDA
    device, without mixed images or accumulated gradients, and without loader processes, whose threads could disturb the
    recording.

    Raises:
        UserError: from the constructor, for another mode.

    """

    def __init__(self, mode: bool | str = "auto"):
        if mode not in (True, False, "auto"):
            raise UserError(f"graph={mode!r} is unknown; the choices are auto, true and false.")
        self.mode = mode
        self._shape: torch.Size | None = None
        self._replay: Callable[[torch.Tensor], torch.Tensor] | None = None

    def reset(self) -> None:
        """Forget the recorded passes: another phase trains other parameters."""
        self._shape = self._replay = None

    def logits(self, net: StagedNet, images: torch.Tensor, start: str | None, module: LightningModule) -> torch.Tensor:
        """Return what `net(images, start)`, the network of `module`, returns in training."""
        if self._shape is None:
            self._shape, self._replay = images.shape, self._recorded(net, images, start, module)
        return self._replay(images) if self._replay and images.shape == self._shape else net(images, start)

    def _recorded(
        self, net: StagedNet, images: torch.Tensor, start: str | None, module: LightningModule
    ) -> Callable | None:
        if not self.mode or (reason := _obstacle(images, module)):
            if self.mode is True:
                log.warning(f"graph=true has no effect: {reason}")
            return None
        buffers, random = [buffer.clone() for buffer in net.buffers()], torch.cuda.get_rng_state(images.device)
        dtype, enabled = torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda")
        try:
            with torch.autocast("cuda", dtype, enabled, cache_enabled=False):
                example = images.detach().clone()
                return torch.cuda.make_graphed_callables(_Entry(net, start), (example,), allow_unused_input=True)
        except RuntimeError as error:
            log.warning(f"a step cannot be recorded as a CUDA graph, so it is launched piece by piece: {error}")
            return None
        finally:  # the warm-up has changed both
            for buffer, before in zip(net.buffers(), buffers, strict=True):
                buffer.copy_(before)
            torch.cuda.set_rng_state(random, images.device)


class _Entry(nn.Module):
    """`net`, entered at the stage `start`."""

    def __init__(self, net: StagedNet, start: str | None):
        super().__init__()
        self.net, self.start = net, start

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.net(images, self.start)


def _obstacle(images: torch.Tensor, module: LightningModule) -> str:
    """Return why a step cannot be recorded, or nothing."""
    if images.device.type != "cuda":
        return "there is no CUDA device"
    trainer: Any = module.trainer
    if trainer.world_size > 1:
        return "several devices share each batch"
    if trainer.accumulate_grad_batches != 1:
        return "trainer.accumulate_grad_batches adds gradients up, but a graph writes them to one place"
    if getattr(trainer.train_dataloader, "num_workers", 0):
        return "loader processes feed the step; raise data.device_gb and data.pixels_gb, so that images fit on the GPU"
    return ""
