"""Try what a run is going to use on a few numbers: what fails in an instant need not fail after hours."""

import copy
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

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

_MOST_EPOCHS = 10_000  # that a scheduler is stepped through
_FALLING = ("loss", "ece")  # metrics that are better when they are lower


def check_net(net: nn.Module, data: ImageFolderDataModule) -> None:
    """Have the net answer to an image of each size that it will see.

    Raises:
        UserError: if it does not, or not with a number for each class.

    """
    if not isinstance(net, StagedNet):
        raise UserError(f"model._target_ gives {type(net).__name__}, and must give a thaw.models.staged.StagedNet.")
    net.check_sizes(data.image_size, data.train_size)
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    for name, size in {"train_size": data.train_size, "image_size": data.image_size}.items():
        with _telling(f"data.{name}={size}: the net"), torch.no_grad():
            logits = net(torch.zeros(1, 3, size, size, dtype=torch.uint8))
        if logits.shape != (1, len(data.classes)):
            raise UserError(f"the net gives {tuple(logits.shape)} for an image of {len(data.classes)} classes.")
    for module, mode in modes:
        module.training = mode


def rehearse(
    trainer: Trainer, classifier: ImageClassifier, phases: Sequence[Phase], data: ImageFolderDataModule
) -> None:
    """Run optimizers, schedulers and the loss on numbers of no consequence, as the run will.

    Has `data` leave out a last batch from which the net cannot learn.

    Raises:
        UserError: naming the component that does not work.

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
    groups = [
        {"params": [nn.Parameter(torch.zeros(1, device=device))], "lr": group.lr, "name": group.stage}
        for group in phase.groups
    ]
    with _telling("optimizer"):
        optimizer = (phase.optimizer or classifier.optimizer)(groups)
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"it gives {type(optimizer).__name__}, which is no optimizer")
        for group in groups:
            group["params"][0].grad = torch.zeros(1, device=device)
        optimizer.step(lambda: torch.zeros((), device=device))
    with _telling("scheduler"):
        _step_through(phase.scheduler or classifier.scheduler, optimizer, phase.last - phase.first)


def _step_through(scheduler, optimizer: Optimizer, epochs: int) -> None:
    made = scheduler(optimizer, epochs) if isinstance(scheduler, PerStep) else scheduler(optimizer)
    if not isinstance(made, LRScheduler):
        raise TypeError(f"it gives {type(made).__name__}, which is no scheduler")
    if not isinstance(scheduler, PerStep):
        for _ in range(min(epochs, _MOST_EPOCHS)):
            made.step(*([0.0] if isinstance(made, ReduceLROnPlateau) else []))


def _try_loss(classifier: ImageClassifier) -> None:
    classes = len(classifier.description["classes"])
    images, labels = torch.zeros(4, 3, 8, 8), torch.arange(4) % classes
    logits = torch.zeros(4, classes, requires_grad=True)
    if classifier.mix:
        with _telling("mix"):
            images, labels = classifier.mix(images, labels)
    weights = "data.balance=weights needs a loss that takes weight=…, as data.balance=sampler does not"
    shares = "with mix=… labels are a share for each class"
    hints = [weights] * (classifier.class_weights is not None) + [shares] * bool(classifier.mix)
    with _telling("loss", "; ".join(hints)):
        loss = classifier.loss_of(logits, labels)
        if not isinstance(loss, torch.Tensor):
            raise TypeError(f"it gives {type(loss).__name__} in place of a number")
        loss.backward()


def _avoid_single_images(
    classifier: ImageClassifier, phases: Sequence[Phase], data: ImageFolderDataModule, devices: int
) -> None:
    """Of one image there may be no batch statistics: whether there are depends on the net and the image's size."""
    if not data.has_single_images(devices) or not any(_cannot_learn_one(classifier, phase, data) for phase in phases):
        return
    if data.batch_size < 2 * devices or len(data.train) < data.batch_size:
        raise UserError(
            f"data.batch_size={data.batch_size} gives batch-norm one of {len(data.train)} training images at a time, "
            f"of which it has no statistics; choose another, of at least {2 * devices}."
        )
    data.fewest_images = 2
    log.info("the last batch of an epoch, one image of which batch-norm has no statistics, is left out")


def _cannot_learn_one(classifier: ImageClassifier, phase: Phase, data: ImageFolderDataModule) -> bool:
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
            raise UserError(f"trainer.limit_{split}_batches={limit} of {math.ceil(count)} batches is less than one.")


def _check_monitors(trainer: Trainer, classifier: ImageClassifier) -> None:
    """Callbacks that follow a metric look for it when the first epoch is over."""
    known = ["val/loss", *classifier.val_metrics, *(f"train/{name}" for name in classifier.train_metrics)]
    for callback in trainer.callbacks:
        monitor, mode = getattr(callback, "monitor", None), getattr(callback, "mode", None)
        if monitor is None or mode not in ("min", "max"):
            continue
        told = f"{type(callback).__name__}: monitor={monitor!r}"
        if monitor not in known:
            raise UserError(f"callbacks: {told} is no metric; the choices are {', '.join(known)}.")
        wanted = "min" if monitor.endswith(_FALLING) else "max"
        if mode != wanted:
            raise UserError(f"callbacks: {told} is better when it is {'low' if wanted == 'min' else 'high'}: set "
                            f"mode={wanted} beside it.")  # fmt: skip


@contextmanager
def _telling(component: str, hint: str = "") -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # what a library or a user's own code says to its arguments
        raise UserError(f"{component} does not work: {first_line(error)}{hint and f'; {hint}'}.") from error
