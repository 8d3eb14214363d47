"""A training step's forward and backward pass as one CUDA graph."""

import logging
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from lightning import LightningModule

from thaw.errors import UserError

log = logging.getLogger(__name__)

_WARM_UP = 3  # passes, in which libraries choose algorithms and take memory
_TIMED = 5  # replays in a measurement
_ROOM = 1 / 4  # of the device's memory, for the intermediate results that a recording keeps

Pass = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]  # images, labels -> logits, loss


@dataclass(frozen=True)
class _Recording:
    graph: Any  # torch.cuda.CUDAGraph
    inputs: tuple[torch.Tensor, torch.Tensor]
    outputs: tuple[torch.Tensor, torch.Tensor]
    gradients: list[tuple[torch.nn.Parameter, torch.Tensor | None]]
    seconds: float  # that the GPU takes for a replay

    def fits(self, images: torch.Tensor, labels: torch.Tensor) -> bool:
        return all(one.shape == other.shape for one, other in zip(self.inputs, (images, labels), strict=True))

    def replay(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.inputs[0].copy_(images)
        self.inputs[1].copy_(labels)
        self.graph.replay()
        first, gradient = self.gradients[0]
        if first.grad is not gradient:  # a step that was not replayed has come before
            for parameter, gradient in self.gradients:
                parameter.grad = gradient
        logits, loss = self.outputs
        return logits, loss.clone()  # the next replay writes to the same memory


class StepGraph:
    """Replay of a recorded forward and backward pass for batches of the size of a phase's first batch.

    With a small batch, Python takes longer to launch operations than a GPU to compute them. A graph is one launch.
    Results are equal bit for bit. `mode` is true, false or "auto", which records where it is possible and where the
    recording keeps at most a quarter of the GPU's memory. `replayed` says whether the last step was a replay, which has
    filled the gradients already. `seconds` is the time that the GPU took for all replays.

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
        """Forget the recorded pass: another phase trains other parameters."""
        self._recording, self._is_decided, self.replayed = None, False, False

    def step(
        self, images: torch.Tensor, labels: torch.Tensor, compute: Pass, module: LightningModule
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits and the loss that `compute` returns for a training batch of `module`."""
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
    """Record a pass, unless its intermediate results take more than `limit` bytes."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]

    def forward_and_backward() -> tuple[torch.Tensor, torch.Tensor]:
        for parameter in trained:
            parameter.grad = None  # so that a pass writes gradients instead of adding to them
        logits, loss = compute(images, labels)
        loss.backward()
        return logits.detach(), loss.detach()

    dtype, enabled = torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda")
    with torch.autocast("cuda", dtype, enabled, cache_enabled=False):  # a cached weight would not change with training
        if _warm_up(forward_and_backward, images.device) > limit:
            return None
        graph = torch.cuda.CUDAGraph()
        # Other threads, such as those that pin the batches of loader processes, may go on.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            outputs = forward_and_backward()
    gradients = [(parameter, parameter.grad) for parameter in trained]
    return _Recording(graph, (images, labels), outputs, gradients, _replay_seconds(graph))


def _replay_seconds(graph: Any) -> float:
    """Return the seconds that the GPU takes for a replay, without the time between launches."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(_TIMED):
        graph.replay()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000 / _TIMED


def _warm_up(run: Callable[[], object], device: torch.device) -> int:
    """Run a few times on a stream of its own, as recording requires; return the bytes that `run` takes."""
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
    """Restore the buffers and random state that a recording changes."""
    buffers, random = [buffer.clone() for buffer in module.buffers()], torch.cuda.get_rng_state(device)
    try:
        yield
    finally:
        for buffer, before in zip(module.buffers(), buffers, strict=True):
            buffer.copy_(before)
        torch.cuda.set_rng_state(random, device)


def _obstacle(images: torch.Tensor, module: LightningModule) -> str:
    """Return why a step cannot be recorded, or nothing."""
    if images.device.type != "cuda":
        return "there is no CUDA device"
    trainer: Any = module.trainer
    if trainer.world_size > 1:
        return "several devices share each batch"
    if trainer.accumulate_grad_batches != 1:
        return "trainer.accumulate_grad_batches adds up gradients, but a graph overwrites the earlier ones"
    if getattr(trainer.precision_plugin, "scaler", None):
        return f"trainer.precision={trainer.precision} changes the scale of the loss from step to step"
    return ""
