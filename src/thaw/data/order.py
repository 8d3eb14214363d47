"""The order of training images in each epoch, and each process's part of this order."""

from collections.abc import Sequence

import numpy as np
from torch.utils.data import Sampler


class SeededOrder(Sampler):
    """Sampler that yields (image index, seed). The order depends only on `seed` and the epoch, which Lightning sets.

    Each of several processes yields every `processes`-th pair, from pair number `rank` on. The batches of all processes
    together then equal those of a single process. The last batch is dropped if it has fewer than `fewest` images per
    process. With `chances`, one weight per image, images are drawn with replacement.
    """

    def __init__(
        self,
        size: int,
        seed: int,
        batch_size: int = 1,
        rank: int = 0,
        processes: int = 1,
        chances: Sequence[float] | None = None,
        fewest: int = 1,
    ):
        rest = size % batch_size
        self.size = size
        self.seed = seed
        self.epoch = 0
        self._skipped: tuple[int, int] | None = None  # (epoch, number of its images to skip)
        self._local_batch_size = batch_size // processes
        self._chances = None if chances is None else np.array(chances) / sum(chances)
        self._mine = slice(rank, size - rest if rest < fewest * processes else size, processes)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def skip(self, epoch: int, batches: int) -> None:
        """Leave out the first `batches` batches of `epoch`: a resumed run has already trained on these."""
        self._skipped = epoch, batches * self._local_batch_size

    def __len__(self) -> int:
        return len(range(self.size)[self._mine])

    def __iter__(self):
        random = np.random.default_rng((self.seed, self.epoch))
        if self._chances is None:
            order = random.permutation(self.size)
        else:
            order = random.choice(self.size, self.size, p=self._chances)
        seeds = random.integers(2**63, size=self.size)
        epoch, skipped = self._skipped or (None, 0)
        rest = slice(skipped if epoch == self.epoch else 0, None)
        return zip(order[self._mine][rest].tolist(), seeds[self._mine][rest].tolist(), strict=True)
