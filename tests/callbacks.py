"""Callbacks that observe a run or disturb it."""

import contextlib
import dataclasses
import os
import shutil
import signal as signals
import time
from pathlib import Path
from typing import ClassVar

import torch
from lightning import Callback


class Snapshots(Callback):
    """Copy the run's folder to `<folder>-<n>` after n epochs: it then looks as if the run had been killed there."""

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
    """Save the net of every process after every phase as `<folder>/<phase>-<rank>.pt`."""

    def __init__(self, folder: str):
        self.folder = Path(folder)

    def on_train_end(self, trainer, classifier) -> None:
        self.folder.mkdir(exist_ok=True)
        torch.save(classifier.net.state_dict(), self.folder / f"{classifier.phase.number}-{trainer.global_rank}.pt")


class Spoiler(Callback):
    """Truncate the image file `path` in the middle of epoch `epoch`, counted from 1."""

    def __init__(self, path: str, epoch: int):
        self.path, self.epoch = Path(path), epoch

    def on_train_batch_start(self, trainer, classifier, batch, index: int) -> None:
        if (trainer.current_epoch + 1, index) == (self.epoch, 1):
            self.path.write_bytes(self.path.read_bytes()[:300])


class Poison(Callback):
    """Replace the loss of one batch in process `rank` by `value` times the sum of the logits.

    `epoch` counts from 1, `batch` from 0.
    """

    def __init__(self, epoch: int, batch: int, value: str = "nan", rank: int = 0):
        self.epoch, self.batch, self.value, self.rank = epoch, batch, float(value), rank

    def on_train_batch_start(self, trainer, classifier, batch, index: int) -> None:
        if (trainer.current_epoch + 1, index, trainer.global_rank) == (self.epoch, self.batch, self.rank):
            loss = lambda logits, labels: logits.sum() * self.value  # noqa: E731
            classifier.recipe = dataclasses.replace(classifier.recipe, loss=loss)


class PoisonedGradient(Callback):
    """Set a gradient to NaN at the last batch of epoch `epoch`, counted from 1; the loss stays finite."""

    def __init__(self, epoch: int):
        self.epoch = epoch

    def on_after_backward(self, trainer, classifier) -> None:
        if trainer.current_epoch + 1 == self.epoch and trainer.is_last_batch:
            classifier.net.fc.weight.grad[0, 0] = float("nan")


class Killer(Callback):
    """Send a signal to the loader processes of training in the middle of epoch `epoch`, counted from 1."""

    def __init__(self, epoch: int, signal: str = "SIGKILL"):
        self.epoch, self.signal = epoch, getattr(signals, signal)

    def on_train_batch_start(self, trainer, classifier, batch, index: int) -> None:
        if (trainer.current_epoch + 1, index) == (self.epoch, 1):
            for process in trainer.train_dataloader._iterator._workers:
                os.kill(process.pid, self.signal)


class Filler(Callback):
    """Fill the disk with the new file `path` once the checkpoint of epoch `epoch`, counted from 1, is saved."""

    def __init__(self, path: str, epoch: int):
        self.path, self.epoch = Path(path), epoch

    def on_train_epoch_start(self, trainer, classifier) -> None:
        if trainer.current_epoch == self.epoch:
            with contextlib.suppress(OSError), self.path.open("xb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))


class CacheLoser(Callback):
    """In the middle of epoch `epoch`, counted from 1, delete the cache, or cut its files in half if `harm` is "cut"."""

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
    """Send this process a signal once at each of `places`: (name of a hook, epoch, batch), numbered from 0."""

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
    """Stop process `rank` in `batch` of `epoch` (counted from 0) and create `path`; if `path` exists, do nothing."""

    def __init__(self, path: str, epoch: int, batch: int, rank: int):
        self.path, self.place = Path(path), (epoch, batch, rank)

    def on_train_batch_start(self, trainer, classifier, batch, index: int) -> None:
        if (trainer.current_epoch, index, trainer.global_rank) == self.place and not self.path.exists():
            self.path.touch()
            os.kill(os.getpid(), signals.SIGTERM)


class StepLosses(Callback):
    """Append the training loss of every step, averaged over all processes, to the file `path`."""

    def __init__(self, path: str):
        self.path = Path(path)

    def on_train_batch_end(self, trainer, classifier, outputs, batch, index: int) -> None:
        loss = trainer.strategy.reduce(outputs["loss"].clone(), reduce_op="mean")
        if trainer.is_global_zero:
            with self.path.open("a") as file:
                file.write(f"{loss.item()}\n")


class Threads(Callback):
    """Create a file in `folder` whose name is the number of CPU threads that the run uses."""

    def __init__(self, folder: str):
        self.folder = Path(folder)

    def on_train_start(self, trainer, classifier) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / str(torch.get_num_threads())).touch()


class Thief(Callback):
    """Change a frozen weight after every epoch."""

    def on_train_epoch_end(self, trainer, classifier):
        classifier.net.conv1.weight.data[0, 0, 0, 0] += 1e-6


class KillWandb(Callback):
    """Kills the service process of W&B after the first epoch."""

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch == 0:
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                words = path.read_bytes().split(b"\0") if path.exists() else []
                if any(b"wandb-core" in word for word in words) and str(os.getpid()).encode() in words:
                    os.kill(int(path.parent.name), signals.SIGKILL)
            time.sleep(0.5)
