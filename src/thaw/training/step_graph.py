"""Run a training step's forward and backward pass as one CUDA graph."""

import logging
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from lightning import LightningModule

from thaw.errors import UserError

log = logging.getLogger(__name__)

_WARM_UP = 3  # passes before the recording; libraries then choose algorithms and allocate memory
_TIMED = 5  # replays whose time is measured
_ROOM = 1 / 4  # largest share of the GPU's memory for intermediate results that a recording keeps

Pass = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]  # images, labels -> logits, loss


@dataclass(frozen=True)
class _Recording:
    graph: Any  # torch.cuda.CUDAGraph
    inputs: tuple[torch.Tensor, torch.Tensor]
    outputs: tuple[torch.Tensor, torch.Tensor]
    gradients: list[tuple[torch.nn.Parameter, torch.Tensor | None]]
    seconds: float  # GPU time of one replay

    def fits(self, images: torch.Tensor, labels: torch.Tensor) -> bool:
        return all(one.shape == other.shape for one, other in zip(self.inputs, (images, labels), strict=True))

    def replay(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.inputs[0].copy_(images)
        self.inputs[1].copy_(labels)
        self.graph.replay()
        first, gradient = self.gradients[0]
        if first.grad is not gradient:  # the step before was not a replay
            for parameter, gradient in self.gradients:
                parameter.grad = gradient
        logits, loss = self.outputs
        return logits, loss.clone()  # a copy, because the next replay overwrites the loss


class StepGraph:
    """Record the forward and backward pass of a phase's first batch, and replay it for batches of the same size.

    With a small batch, Python takes longer to launch operations than a GPU takes to compute them. A CUDA graph needs
    only one launch. Its results equal those of the plain operations bit for bit. `mode` is True, False or "auto", which
    records if possible and if the recording takes at most a quarter of the GPU's memory. `replayed` is whether the last
    step was a replay, which also fills the gradients. `seconds` is the GPU time of all replays.

    Raises:
        UserError: from the constructor, for an unknown mode.

    """

    def __init__(self, mode: bool | str = "auto"):
        if mode not in (True, False, "auto"):
            raise UserError(f"graph={mode!r} is unknown; the choices are auto, true and false.")
        self.mode = mode
        self.replayed = False
        self.seconds = 0.0
        self._is_decided = False
        self._recording: _Recording | None = None

    def reset(self) -> None:
        """Forget the recorded pass; call this when another phase begins, which trains other parameters."""
        self._recording, self._is_decided, self.replayed = None, False, False

    def step(
        self, images: torch.Tensor, labels: torch.Tensor, compute: Pass, module: LightningModule
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits and loss of a training batch, by a replay if the batch's size fits, else by `compute`."""
        if not self._is_decided:
            self._is_decided, self._recording = True, self._recorded(images, labels, compute, module)
        self.replayed = self._recording is not None and self._recording.fits(images, labels)
        if self._recording is not None and self.replayed:
            self.seconds += self._recording.seconds
            return self._recording.replay(images, labels)
        return compute(images, labels)

    def _recorded(
        self, images: torch.Tensor, labels: torch.Tensor, compute: Pass, module: LightningModule
    ) -> _Recording | None:
        if not self.mode or (reason := _obstacle(images, module)):
            if self.mode is True:
                log.warning(f"graph=true has no effect: {reason}")
            return None
        limit = torch.inf if self.mode is True else _ROOM * _memory(images.device)
        try:
            with _leaving_no_trace(module, images.device):
                return _record(images.clone(), labels.clone(), compute, module, limit)
        except RuntimeError as error:
            log.warning(f"a step cannot be recorded as a CUDA graph, so its operations run one by one: {error}")
            return None


def _record(
    images: torch.Tensor, labels: torch.Tensor, compute: Pass, module: LightningModule, limit: float
) -> _Recording | None:
    """Record a forward and backward pass; return None if intermediate results take more than `limit` bytes."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]

    def forward_and_backward() -> tuple[torch.Tensor, torch.Tensor]:
        for parameter in trained:
            parameter.grad = None  # makes a pass write gradients instead of adding to old ones
        logits, loss = compute(images, labels)
        loss.backward()
        return logits.detach(), loss.detach()

    dtype, enabled = torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda")
    with torch.autocast("cuda", dtype, enabled, cache_enabled=False):  # a cached weight would not change with training
        if _warm_up(forward_and_backward, images.device) > limit:
            return None
        graph = torch.cuda.CUDAGraph()
        # Other threads, such as the DataLoader's thread that pins memory, may use CUDA during the recording.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            outputs = forward_and_backward()
    gradients = [(parameter, parameter.grad) for parameter in trained]
    return _Recording(graph, (images, labels), outputs, gradients, _replay_seconds(graph))


def _replay_seconds(graph: Any) -> float:
    """Return the GPU time of one replay in seconds, without Python's time between replays."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(_TIMED):
        graph.replay()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000 / _TIMED


def _warm_up(run: Callable[[], object], device: torch.device) -> int:
    """Call `run` a few times on a new CUDA stream, as recording requires; return its peak memory in bytes."""
    stream, before = torch.cuda.Stream(device), torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UP):
            run()
    torch.cuda.current_stream(device).wait_stream(stream)
    return torch.cuda.max_memory_allocated(device) - before


def _memory(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).total_memory


@contextmanager
def _leaving_no_trace(module: LightningModule, device: torch.device):
    buffers, random = [buffer.clone() for buffer in module.buffers()], torch.cuda.get_rng_state(device)
    try:
        yield
    finally:
        for buffer, before in zip(module.buffers(), buffers, strict=True):
            buffer.copy_(before)
        torch.cuda.set_rng_state(random, device)


def _obstacle(images: torch.Tensor, module: LightningModule) -> str:
    if images.device.type != "cuda":
        return "there is no CUDA device"
    trainer: Any = module.trainer
    if trainer.world_size > 1:
        return "several devices share each batch"
    if trainer.accumulate_grad_batches != 1:
        return "trainer.accumulate_grad_batches adds up gradients, but a graph overwrites earlier gradients"
    if getattr(trainer.precision_plugin, "scaler", None):
        return f"trainer.precision={trainer.precision} changes the scale of the loss from step to step"
    return ""
