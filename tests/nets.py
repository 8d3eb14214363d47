"""Nets small enough to train in milliseconds, with every kind of stage that a backbone has."""

import contextlib
import multiprocessing
import os
import shutil
import signal as signals
from collections import OrderedDict
from pathlib import Path
from typing import ClassVar

import torch
from lightning import Callback
from torch import nn

from thaw.models.staged import Normalize, StagedNet


def tiny_net(num_classes: int, name: str = "tiny", image_size: int | None = None, dropout: float = 0) -> StagedNet:
    modules = OrderedDict(
        normalize=Normalize(),
        conv1=nn.Conv2d(3, 6, 3, stride=2, bias=False),
        bn1=nn.BatchNorm2d(6),
        relu=nn.ReLU(),
        layer1=nn.Sequential(nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8), nn.ReLU()),
        avgpool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        dropout=nn.Dropout(dropout),
        fc=nn.Linear(8, num_classes),
    )
    stages = {
        "normalize": ["normalize"],
        "conv1": ["conv1", "bn1", "relu"],
        "layer1": ["layer1", "avgpool", "flatten"],
        "fc": ["dropout", "fc"],
    }
    return StagedNet(modules, stages, config={"name": name, "num_classes": num_classes})


def normless_net(num_classes: int, name: str = "normless", image_size: int | None = None) -> StagedNet:
    """Whose gradients are a mean over images, so that it does not matter how a batch is divided."""
    modules = OrderedDict(
        normalize=Normalize(),
        conv1=nn.Conv2d(3, 6, 5, stride=3),
        relu=nn.ReLU(),
        conv2=nn.Conv2d(6, 6, 3),
        conv3=nn.Conv2d(6, 6, 1),
        avgpool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        fc=nn.Linear(6, num_classes),
    )
    stages = {"normalize": ["normalize"], "conv1": ["conv1", "relu"], "conv2": ["conv2"]}
    stages |= {"conv3": ["conv3", "avgpool", "flatten"], "fc": ["fc"]}
    return StagedNet(modules, stages, config={"name": name, "num_classes": num_classes})


class Snapshots(Callback):
    """Copies the run's folder to `<folder>-<n>` when n epochs are done, as a killed run would leave it."""

    def __init__(self, folder: str):
        self.folder = Path(folder)

    def on_train_epoch_start(self, trainer, classifier) -> None:
        self._keep(trainer.current_epoch)

    def on_predict_start(self, trainer, classifier) -> None:
        self._keep(classifier.phase.total)

    def _keep(self, epochs: int) -> None:
        target = self.folder.with_name(f"{self.folder.name}-{epochs}")
        if epochs and not target.exists():
            shutil.copytree(self.folder, target)


def tiny_resnet(num_classes: int, name: str = "tiny_resnet", image_size: int | None = None) -> StagedNet:
    """The stages of a ResNet, of two convolutions each, one with a batch-norm and one with a bias."""
    widths = {"layer1": 4, "layer2": 6, "layer3": 6, "layer4": 8}
    modules, stages, width = OrderedDict(normalize=Normalize()), {"normalize": ["normalize"]}, 4
    modules |= OrderedDict(conv1=nn.Conv2d(3, width, 3, stride=2, bias=False), bn1=nn.BatchNorm2d(width))
    stages["conv1"] = ["conv1", "bn1"]
    for layer, wider in widths.items():
        modules[layer] = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(width, wider, 3, padding=1, bias=False),
                bn1=nn.BatchNorm2d(wider),
                relu1=nn.ReLU(),
                conv2=nn.Conv2d(wider, wider, 1),
                relu2=nn.ReLU(),
            )
        )
        stages[layer], width = [layer], wider
    modules |= OrderedDict(avgpool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(width, num_classes))
    stages |= {"layer4": ["layer4", "avgpool", "flatten"], "fc": ["fc"]}
    return StagedNet(modules, stages, config={"name": name, "num_classes": num_classes})


class PhaseStates(Callback):
    """Saves the net of every process after every phase as `<folder>/<phase>-<rank>.pt`."""

    def __init__(self, folder: str):
        self.folder = Path(folder)

    def on_train_end(self, trainer, classifier) -> None:
        self.folder.mkdir(exist_ok=True)
        torch.save(classifier.net.state_dict(), self.folder / f"{classifier.phase.number}-{trainer.global_rank}.pt")


class Spoiler(Callback):
    """Cuts an image off when training is in the middle of epoch `epoch`, counted from 1."""

    def __init__(self, path: str, epoch: int):
        self.path, self.epoch = Path(path), epoch

    def on_train_batch_start(self, trainer, classifier, batch, index: int) -> None:
        if (trainer.current_epoch + 1, index) == (self.epoch, 1):
            self.path.write_bytes(self.path.read_bytes()[:300])


class Poison(Callback):
    """Makes the loss of one batch what `value` says; the epoch is counted from 1, the batch from 0."""

    def __init__(self, epoch: int, batch: int, value: str = "nan"):
        self.epoch, self.batch, self.value = epoch, batch, float(value)

    def on_train_batch_start(self, trainer, classifier, batch, index: int) -> None:
        if (trainer.current_epoch + 1, index) == (self.epoch, self.batch):
            classifier.loss = lambda logits, labels, weight: logits.sum() * self.value


class PoisonedGradient(Callback):
    """Leaves a loss as it is and spoils what follows from it, at the last batch of an epoch, counted from 1."""

    def __init__(self, epoch: int):
        self.epoch = epoch

    def on_after_backward(self, trainer, classifier) -> None:
        if trainer.current_epoch + 1 == self.epoch and trainer.is_last_batch:
            classifier.net.fc.weight.grad[0, 0] = float("nan")


class Killer(Callback):
    """Sends a signal to the loader processes in the middle of an epoch, counted from 1."""

    def __init__(self, epoch: int, signal: str = "SIGKILL"):
        self.epoch, self.signal = epoch, getattr(signals, signal)

    def on_train_batch_start(self, trainer, classifier, batch, index: int) -> None:
        if (trainer.current_epoch + 1, index) == (self.epoch, 1):
            for process in multiprocessing.active_children():
                os.kill(process.pid, self.signal)


class Filler(Callback):
    """Leaves no room on a disk, by a file `path` that is not there, once an epoch, counted from 1, has been saved."""

    def __init__(self, path: str, epoch: int):
        self.path, self.epoch = Path(path), epoch

    def on_train_epoch_start(self, trainer, classifier) -> None:
        if trainer.current_epoch == self.epoch:
            with contextlib.suppress(OSError), self.path.open("xb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))


class CacheLoser(Callback):
    """Deletes everything in the cache in the middle of an epoch, counted from 1, or puts files cut short there."""

    def __init__(self, epoch: int, harm: str):
        self.epoch, self.harm = epoch, harm

    def on_train_batch_start(self, trainer, classifier, batch, index: int) -> None:
        if (trainer.current_epoch + 1, index) != (self.epoch, 1):
            return
        for file in [path for path in Path(os.environ["THAW_CACHE"]).rglob("*.bin") if path.is_file()]:
            content = file.read_bytes()
            file.unlink()
            if self.harm == "cut":
                file.write_bytes(content[: len(content) // 2])
        if self.harm == "deleted":
            shutil.rmtree(os.environ["THAW_CACHE"])


class Signals(Callback):
    """Sends this process a signal at every one of `places`, once: (the name of a hook, epoch, batch)."""

    places: ClassVar[list[tuple[str, int, int]]] = []
    number = signals.SIGTERM

    def on_train_batch_start(self, trainer, classifier, batch, index: int) -> None:
        self._send("train", trainer.current_epoch, index)

    def on_validation_batch_start(self, trainer, classifier, batch, index: int, loader: int = 0) -> None:
        self._send("validation", trainer.current_epoch, index)

    def on_train_epoch_end(self, trainer, classifier) -> None:
        self._send("epoch end", trainer.current_epoch, 0)

    def on_predict_batch_start(self, trainer, classifier, batch, index: int, loader: int = 0) -> None:
        self._send("predict", 0, index)

    def _send(self, *place) -> None:
        if place in self.places:
            self.places.remove(place)
            os.kill(os.getpid(), self.number)


class StepLosses(Callback):
    """Writes the training loss of every step, of all processes together, a line each to `path`."""

    def __init__(self, path: str):
        self.path = Path(path)

    def on_train_batch_end(self, trainer, classifier, outputs, batch, index: int) -> None:
        loss = trainer.strategy.reduce(outputs["loss"].clone(), reduce_op="mean")
        if trainer.is_global_zero:
            with self.path.open("a") as file:
                file.write(f"{loss.item()}\n")


class Threads(Callback):
    """Leaves a file named by the number of threads that a run computes with."""

    def __init__(self, folder: str):
        self.folder = Path(folder)

    def on_train_start(self, trainer, classifier) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / str(torch.get_num_threads())).touch()
