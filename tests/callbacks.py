"""Callbacks that look at a run, or disturb it."""

import contextlib
import dataclasses
import os
import shutil
import signal as signals
from pathlib import Path
from typing import ClassVar

import torch
from lightning import Callback


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
    """Makes the loss of one batch what `value` says, in the process `rank`.

    The epoch is counted from 1, the batch from 0.
    """

    def __init__(self, epoch: int, batch: int, value: str = "nan", rank: int = 0):
        self.epoch, self.batch, self.value, self.rank = epoch, batch, float(value), rank

    def on_train_batch_start(self, trainer, classifier, batch, index: int) -> None:
        if (trainer.current_epoch + 1, index, trainer.global_rank) == (self.epoch, self.batch, self.rank):
            loss = lambda logits, labels: logits.sum() * self.value  # noqa: E731
            classifier.recipe = dataclasses.replace(classifier.recipe, loss=loss)


class PoisonedGradient(Callback):
    """Leaves a loss as it is and spoils what follows from it, at the last batch of an epoch, counted from 1."""

    def __init__(self, epoch: int):
        self.epoch = epoch

    def on_after_backward(self, trainer, classifier) -> None:
        if trainer.current_epoch + 1 == self.epoch and trainer.is_last_batch:
            classifier.net.fc.weight.grad[0, 0] = float("nan")


class Killer(Callback):
    """Sends a signal to the processes that load training images in the middle of an epoch, counted from 1."""

    def __init__(self, epoch: int, signal: str = "SIGKILL"):
        self.epoch, self.signal = epoch, getattr(signals, signal)

    def on_train_batch_start(self, trainer, classifier, batch, index: int) -> None:
        if (trainer.current_epoch + 1, index) == (self.epoch, 1):
            for process in trainer.train_dataloader._iterator._workers:
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


class StopOnce(Callback):
    """Tells the process `rank` to stop in the batch of an epoch, if there is no file `path` yet, which it leaves.

    Both are counted from 0.
    """

    def __init__(self, path: str, epoch: int, batch: int, rank: int):
        self.path, self.place = Path(path), (epoch, batch, rank)

    def on_train_batch_start(self, trainer, classifier, batch, index: int) -> None:
        if (trainer.current_epoch, index, trainer.global_rank) == self.place and not self.path.exists():
            self.path.touch()
            os.kill(os.getpid(), signals.SIGTERM)


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


class Thief(Callback):
    """Changes a frozen weight."""

    def on_train_epoch_end(self, trainer, classifier):
        classifier.net.conv1.weight.data[0, 0, 0, 0] += 1e-6
