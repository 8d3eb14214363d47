"""Search for a learning rate: train a copy of the network at rising rates until it diverges."""

import copy
import itertools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning import Callback, Trainer
from tqdm import tqdm

from thaw.data.option_values import whole_number
from thaw.data.rotation import apply_augmentation
from thaw.errors import UserError
from thaw.pages import charts
from thaw.runs.optional_output import warn_on_failure
from thaw.training.classifier import ImageClassifier

log = logging.getLogger(__name__)

_LOWEST, _HIGHEST = 1e-6, 1.0
_SMOOTHING = 0.9  # weight of the earlier losses in their running average
_DIVERGED = 4  # the search ends at a loss of this multiple of the lowest loss


class RateFinder(Callback):
    """Callback that plots the loss over rising learning rates before each phase, and logs where it falls most steeply.

    The figure is `<folder>/learning_rate_<phase>.png`. It shows the head's rates; the rates of other stages rise in
    proportion. (Lightning's Tuner gives every stage the same rate.) Source: Smith 2017.

    Raises:
        UserError: when training starts, if the run has several devices.

    """

    def __init__(self, folder: str, steps: int = 100):
        self.folder = Path(folder)
        self.steps = whole_number("callbacks.find_lr.steps", steps)

    def on_train_start(self, trainer, pl_module: Any) -> None:
        if pl_module.solved:
            return
        if trainer.world_size > 1:
            raise UserError("callbacks=find_lr needs trainer.devices=1.")
        rates, losses = self._search(trainer, copy.deepcopy(pl_module))
        best, number, own = steepest(rates, losses), pl_module.phase.number, pl_module.phase.groups[-1].lr
        path = self.folder / f"learning_rate_{number}.png"
        with warn_on_failure(f"the figure {path}"):
            charts.save(charts.rate_curve(rates, losses, best, own), path)
        found = f"falls most steeply at {best:.2g}" if best else "never falls"
        log.info(f"learning rate of phase {number}: the loss {found}; the run uses {own:.2g}")

    def _search(self, trainer: Trainer, classifier: ImageClassifier) -> tuple[list[float], list[float]]:
        optimizer = classifier.phase_optimizer()
        shares = [group["lr"] / optimizer.param_groups[-1]["lr"] for group in optimizer.param_groups]
        rates, losses, average = [], [], 0.0
        batches = itertools.islice(_batches(trainer), self.steps)
        shown = tqdm(batches, "finding a learning rate", self.steps, leave=False, disable=None)
        for step, (images, labels) in enumerate(shown, start=1):
            rate = _LOWEST * (_HIGHEST / _LOWEST) ** (step / self.steps)
            for group, share in zip(optimizer.param_groups, shares, strict=True):
                group["lr"] = rate * share
            with trainer.precision_plugin.forward_context():
                _, loss = classifier.training_loss(images.to(classifier.device), labels.to(classifier.device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            average = _SMOOTHING * average + (1 - _SMOOTHING) * loss.item()
            losses.append(average / (1 - _SMOOTHING**step))
            rates.append(rate)
            if not losses[-1] < _DIVERGED * min(losses):  # also stops at NaN
                break
        return rates, losses


def steepest(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """Return the middle of the decade of rates in which a fitted line falls most steeply, or None if no line falls."""
    x, y = np.log10(rates), np.asarray(losses)
    half = round((len(x) - 1) / 2 / (x[-1] - x[0])) if len(x) > 2 else len(x)
    middles = range(half, len(x) - half)
    slopes = [np.polyfit(x[i - half : i + half + 1], y[i - half : i + half + 1], 1)[0] for i in middles]
    return rates[middles[int(np.argmin(slopes))]] if slopes and min(slopes) < 0 else None


def _batches(trainer: Any) -> Iterator:
    loader = trainer.datamodule.train_dataloader()
    for epoch in itertools.count():
        loader.sampler.set_epoch(epoch)
        yield from map(apply_augmentation, loader)
