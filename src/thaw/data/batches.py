"""Order, size and class balance of batches, and their division among the processes of distributed training."""

from pathlib import Path

import torch
from lightning import Trainer

from thaw.data.folders import ClassFolders
from thaw.data.order import SeededOrder
from thaw.errors import UserError


class DistributedBatches:
    """Mixin that divides a data module's images into batches. The data module sets the attributes."""

    root: Path
    classes: list[str]
    train: ClassFolders
    val: ClassFolders
    seed: int
    batch_size: int  # images of all processes together
    balance: str | None  # "weights", "sampler" or None
    trainer: Trainer | None
    fewest_images: int = 1  # a last batch with fewer images per device is dropped

    @property
    def class_weights(self) -> torch.Tensor | None:
        """Weights for the loss, float (classes,), larger for rare classes; None unless `balance` is "weights"."""
        return self._rarity() if self.balance == "weights" else None

    @property
    def balancing_weights(self) -> torch.Tensor | None:
        """Class weights, float (classes,), that act like `balance` on average; None if `balance` is None."""
        return self._rarity() if self.balance else None

    def _rarity(self) -> torch.Tensor:
        labels = torch.tensor(self.train.targets)
        return len(labels) / (len(self.classes) * labels.bincount(minlength=len(self.classes)))

    def train_order(self) -> SeededOrder:
        """Return the order of this process's training images, for batches of `local_batch_size` images."""
        return self._order(*self._rank_and_processes)

    def _order(self, rank: int, processes: int) -> SeededOrder:
        chances = self._rarity()[self.train.targets].tolist() if self.balance == "sampler" else None
        return SeededOrder(len(self.train), self.seed, self.batch_size, rank, processes, chances, self.fewest_images)

    def has_single_images(self, devices: int) -> bool:
        """Return whether one of `devices` devices ever gets only one image of a training batch."""
        return self.batch_size < 2 * devices or devices <= len(self.train) % self.batch_size < 2 * devices

    def batch_files(self, epoch: int, number: int) -> list[str]:
        """Return the training images of batch `number` of `epoch`, both counted from 0, as paths relative to `root`."""
        order = self._order(0, 1)
        order.set_epoch(epoch)
        first = number * self.batch_size
        paths = [self.train.samples[index][0] for index, _ in list(order)[first : first + self.batch_size]]
        return [Path(path).relative_to(self.root).as_posix() for path in paths]

    @property
    def local_batch_size(self) -> int:
        """The number of images in this process's part of a training batch."""
        return self.batch_for_each(self._rank_and_processes[1])

    def batch_for_each(self, devices: int) -> int:
        """Return how many images of a training batch each of `devices` devices gets.

        Raises:
            UserError: if the batch cannot be divided evenly.

        """
        if self.batch_size % devices:
            raise UserError(f"data.batch_size={self.batch_size} cannot be divided among {devices} devices.")
        return self.batch_size // devices

    @property
    def _rank_and_processes(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    @property
    def val_part(self) -> range:
        """The index range of this process's validation images. Ranges of processes differ by at most one in length."""
        rank, processes = self._rank_and_processes
        first, end = (-(-number * len(self.val) // processes) for number in (rank, rank + 1))
        return range(first, end)
