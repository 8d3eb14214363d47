"""Copy tensors between the CPU's memory and a GPU while the GPU keeps computing."""

from collections.abc import Iterable, Iterator

import torch


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return `tensor` on `device`; if the device is a GPU that is still computing, do not wait for this GPU."""
    if tensor.device.type == "cpu" and device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)  # must wait: the source's memory could change during the copy


def fetched(batches: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Yield `batches` in the CPU's memory; while one batch is copied, the GPU already computes the next."""
    waiting = None
    for batch in batches:
        if batch.device.type != "cuda":
            yield batch
            continue
        copied, done = batch.to("cpu", non_blocking=True), torch.cuda.Event()
        done.record()
        if waiting:
            yield _arrived(*waiting)
        waiting = copied, done
    if waiting:
        yield _arrived(*waiting)


def _arrived(copied: torch.Tensor, done: torch.cuda.Event) -> torch.Tensor:
    done.synchronize()
    return copied
