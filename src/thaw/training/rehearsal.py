"""Try a run's components on dummy tensors, so that mistakes show at once instead of after hours."""

import copy
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning import Trainer
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from thaw.data.datamodule import ImageFolderDataModule
from thaw.errors import UserError
from thaw.models.staged import StagedNet
from thaw.runs.components import first_line
from thaw.strategy.phases import Phase
from thaw.training.classifier import ImageClassifier
from thaw.training.schedules import PerStep

log = logging.getLogger(__name__)

_MOST_EPOCHS = 10_000  # largest number of epochs for which a scheduler is tried
_FALLING = ("loss", "ece")  # suffixes of metrics for which lower values are better


def check_net(net: nn.Module, data: ImageFolderDataModule) -> None:
    """Run the network on a black image of the training size and one of the validation size.

    Raises:
        UserError: if the network fails, or does not return one logit per class.

    """
    if not isinstance(net, StagedNet):
        raise UserError(f"model._target_ returns {type(net).__name__}, but must return a thaw.models.staged.StagedNet.")
    net.check_sizes(data.image_size, data.train_size)
    net.eval()
    for name, size in {"train_size": data.train_size, "image_size": data.image_size}.items():
        with _blaming(f"data.{name}={size}: the network"), torch.no_grad():
            logits = net(torch.zeros(1, 3, size, size, dtype=torch.uint8))
        if logits.shape != (1, len(data.classes)):
            raise UserError(
                f"model: for one image the network returns logits of shape {tuple(logits.shape)}, but it must return "
                f"{(1, len(data.classes))}, one logit per class."
            )
    net.train()


def rehearse(
    trainer: Trainer, classifier: ImageClassifier, phases: Sequence[Phase], data: ImageFolderDataModule
) -> None:
    """Try the optimizers, schedulers and the loss on dummy tensors.

    If an epoch's last batch is a single image, on which batch norm cannot train, make `data` leave out this batch.

    Raises:
        UserError: if a component does not work; the message names it.

    """
    data.batch_for_each(trainer.world_size)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for phase in phases:
            if not phase.solver:
                _try_optimizer(classifier, phase, trainer.strategy.root_device)
        if not all(phase.solver for phase in phases):
            _try_loss(classifier)
            _avoid_single_images(classifier, phases, data, trainer.world_size)
    _check_limits(trainer, data)
    _check_monitors(trainer, classifier)


def _try_optimizer(classifier: ImageClassifier, phase: Phase, device: torch.device) -> None:
    parameters = [nn.Parameter(torch.zeros(1, device=device)) for _ in phase.groups]
    groups = [
        {"params": [parameter], "lr": group.lr, "name": group.stage}
        for parameter, group in zip(parameters, phase.groups, strict=True)
    ]

    def closure() -> Any:
        return torch.zeros((), device=device)

    with _blaming("optimizer"):
        optimizer = (phase.optimizer or classifier.recipe.optimizer)(groups)
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"it returns {type(optimizer).__name__}, which is not an optimizer")
        for parameter in parameters:
            parameter.grad = torch.zeros(1, device=device)
        optimizer.step(closure)
    with _blaming("scheduler"):
        _try_scheduler(phase.scheduler or classifier.recipe.scheduler, optimizer, phase.last - phase.first)


def _try_scheduler(build: Callable | PerStep, optimizer: Optimizer, epochs: int) -> None:
    scheduler = build(optimizer, epochs) if isinstance(build, PerStep) else build(optimizer)
    if not isinstance(scheduler, LRScheduler):
        raise TypeError(f"it returns {type(scheduler).__name__}, which is not a scheduler")
    for _ in range(0 if isinstance(build, PerStep) else min(epochs, _MOST_EPOCHS)):
        if isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step(0.0)
        else:
            scheduler.step()


def _try_loss(classifier: ImageClassifier) -> None:
    classes = len(classifier.description["classes"])
    images, labels = torch.zeros(4, 3, 8, 8), classifier.objective.targets(torch.zeros(4, dtype=torch.long))
    logits = torch.zeros(4, classes, requires_grad=True)
    if classifier.recipe.mix:
        with _blaming("mix"):
            images, labels = classifier.recipe.mix(images, labels)
    weights = "data.balance=weights needs a loss with the argument weight; data.balance=sampler works with any loss"
    shares = "mix=… needs a loss that accepts class probabilities as labels"
    hints = [weights] * (classifier.class_weights is not None) + [shares] * bool(classifier.recipe.mix)
    with _blaming("loss", "; ".join(hints)):
        loss = classifier.loss_of(logits, labels)
        if not isinstance(loss, torch.Tensor):
            raise TypeError(f"it returns {type(loss).__name__} instead of a tensor")
        loss.backward()


def _avoid_single_images(
    classifier: ImageClassifier, phases: Sequence[Phase], data: ImageFolderDataModule, devices: int
) -> None:
    if not data.has_single_images(devices) or not any(_needs_two_images(classifier, phase, data) for phase in phases):
        return
    if data.batch_size < 2 * devices or len(data.train) < data.batch_size:
        raise UserError(
            f"with data.batch_size={data.batch_size} and {len(data.train)} training images, a device gets a batch of "
            f"one image, but batch norm needs two; choose another batch size, at least {2 * devices}."
        )
    data.fewest_images = 2
    log.info("the last batch of each epoch is left out: batch norm cannot compute statistics of its single image")


def _needs_two_images(classifier: ImageClassifier, phase: Phase, data: ImageFolderDataModule) -> bool:
    if phase.solver:
        return False
    classifier.start(phase)
    net = copy.deepcopy(classifier.net)
    try:
        with torch.no_grad():
            net(torch.zeros(1, 3, data.train_size, data.train_size, dtype=torch.uint8))
    except ValueError as error:
        return "more than 1 value per channel" in str(error)
    return False


def _check_limits(trainer: Trainer, data: ImageFolderDataModule) -> None:
    batches = {"train": len(data.train) / data.batch_size, "val": len(data.val) / data.val_batch_size}
    for split, count in batches.items():
        limit = getattr(trainer, f"limit_{split}_batches")
        if isinstance(limit, float) and int(limit * math.ceil(count)) == 0:
            option = f"trainer.limit_{split}_batches={limit}"
            raise UserError(f"{option} selects none of {math.ceil(count)} batches; choose a larger share.")


def _check_monitors(trainer: Any, classifier: ImageClassifier) -> None:
    """Check the metric that each callback monitors; Lightning would reject a wrong name only after the first epoch."""
    known = ["val/loss", *classifier.val_metrics, *(f"train/{name}" for name in classifier.train_metrics)]
    for callback in trainer.callbacks:
        monitor, mode = getattr(callback, "monitor", None), getattr(callback, "mode", None)
        if monitor is None or mode not in ("min", "max"):
            continue
        option = f"callbacks: {type(callback).__name__}: monitor={monitor!r}"
        if monitor not in known:
            raise UserError(f"{option} is not a metric; the choices are {', '.join(known)}.")
        wanted = "min" if monitor.endswith(_FALLING) else "max"
        if mode != wanted:
            better = "low" if wanted == "min" else "high"
            raise UserError(f"{option} is better when it is {better}; set mode={wanted} for it.")


@contextmanager
def _blaming(component: str, hint: str = "") -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # libraries and users' own code raise all kinds of exceptions
        raise UserError(f"{component} does not work: {first_line(error)}{hint and f'; {hint}'}.") from error
