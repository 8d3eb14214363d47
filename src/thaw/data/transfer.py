"""Transfers between the CPU's memory and a GPU that wait for as little as possible."""

from collections.abc import Iterable, Iterator

import torch


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return `tensor` on `device`; do not wait for a GPU that is still computing."""
    if tensor.device.type == "cpu" and device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)  # a copy without waiting could read memory that has changed meanwhile


def fetched(batches: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Yield `batches` in the CPU's memory; a GPU computes the next batch while one is copied from it."""
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
