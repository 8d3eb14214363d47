"""Report each epoch: a progress bar, a line in the log, a row in `metrics.csv`."""

import csv
import logging
import time
from pathlib import Path
from typing import Any

from lightning import Callback
from tqdm import tqdm

from thaw.pages.text import duration
from thaw.training.best import ranking

log = logging.getLogger(__name__)


class EpochTable(Callback):
    """Callback that adds a row to metrics.csv and a line to the log after every epoch; epochs and phases count from 1.

    `rows` holds the rows as dicts. `training_seconds` and `validation_seconds` are sums over all epochs. A resumed run
    takes rows and sums from the checkpoint; `seconds_before` is the training time before the run was resumed. Without a
    `path`, no file is written.
    """

    def __init__(self, path: str | Path | None = None):
        self.path = Path(path) if path else None
        self.rows: list[dict] = []
        self.training_seconds = self.validation_seconds = self.seconds_before = 0.0
        self._start = self._epoch_start = self._rate = 0.0
        self._spent = self._validation = 0.0
        self._before = 0
        self._ranked = None
        self._columns: tuple[str, ...] = ()
        self._decisive = ""

    def setup(self, trainer, pl_module, stage: str) -> None:
        if not trainer.is_global_zero:
            self.path = None

    def on_train_start(self, trainer, pl_module: Any) -> None:
        self._columns, self._decisive = pl_module.objective.columns, pl_module.objective.decisive
        self._ranked = ranking(trainer, self._columns)
        now = time.perf_counter()
        self._start = self._start or now
        self._epoch_start = now - self._spent  # includes the epoch's time before an interruption
        if not self.rows:
            self._write(("epoch", "phase", "lr", *self._columns, "seconds"), mode="w")

    def state_dict(self) -> dict:
        seconds = [self.training_seconds, self.validation_seconds]
        epoch = {"rate": self._rate, "seconds": time.perf_counter() - self._epoch_start}
        return {"rows": self.rows, "seconds": seconds, "epoch": epoch}

    def load_state_dict(self, state_dict: dict) -> None:
        self.rows, (self.training_seconds, self.validation_seconds) = list(state_dict["rows"]), state_dict["seconds"]
        self.seconds_before = self.training_seconds
        self._rate, self._spent = state_dict["epoch"]["rate"], state_dict["epoch"]["seconds"]
        self._before = len(self.rows)
        for place, row in enumerate(self.rows):
            if place == 0:
                self._write(row, mode="w")
            self._write(row.values())

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        self._epoch_start, self._validation = time.perf_counter(), 0.0

    def on_validation_start(self, trainer, pl_module) -> None:
        self._validation_start = time.perf_counter()

    def on_validation_end(self, trainer, pl_module) -> None:
        self._validation = time.perf_counter() - self._validation_start

    def on_train_epoch_end(self, trainer, pl_module: Any) -> None:
        seconds = time.perf_counter() - self._epoch_start
        self.validation_seconds += self._validation
        self.training_seconds += seconds - self._validation
        metrics = {name: float(f"{value:.7g}") for name, value in trainer.callback_metrics.items()}  # float32's digits
        row = {
            "epoch": trainer.current_epoch + 1,
            "phase": pl_module.phase.number,
            "lr": self._rate,
            **{name: metrics[name] for name in self._columns},
            "seconds": round(seconds, 3),
        }
        self.rows.append(row)
        self._write(row.values())
        log.info(self._line(row, pl_module.phase.total))

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if batch_idx == 0:  # the last parameter group is the head's
            self._rate = trainer.optimizers[0].param_groups[-1]["lr"]

    def _line(self, row: dict, epochs: int) -> str:
        per_epoch = (time.perf_counter() - self._start) / (len(self.rows) - self._before)  # including checkpoints
        left = (epochs - row["epoch"]) * per_epoch
        return (
            f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}  "
            f"train loss {row['train/loss']:.4f} acc {row['train/acc']:.4f}  "
            f"val loss {row['val/loss']:.4f} {self._decisive.removeprefix('val/')} {row[self._decisive]:.4f}  "
            f"{row['seconds']:.1f} s"
            + (f", {duration(left)} left" if left else "")
            + ("  best so far" if self._ranked and max(self.rows, key=self._ranked) is row else "")
        )

    def _write(self, values, mode: str = "a") -> None:
        if self.path:
            with self.path.open(mode, newline="") as file:
                csv.writer(file).writerow(values)


class EpochBar(Callback):
    """Progress bar of each epoch's training and validation, shown only on a terminal."""

    def __init__(self):
        self._bar = tqdm(disable=True)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._bar = tqdm(
            total=trainer.num_training_batches + sum(trainer.num_val_batches),
            desc=f"epoch {trainer.current_epoch + 1}/{pl_module.phase.total}",
            unit="batch",
            leave=False,
            disable=None if trainer.is_global_zero else True,
        )

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self._bar.update(batch_idx + 1 - self._bar.n)  # more than 1 after quick steps

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        self._bar.update()

    def on_validation_end(self, trainer, pl_module) -> None:
        self._bar.close()

    def on_exception(self, trainer, pl_module, exception) -> None:
        self._bar.close()
