"""What is said and kept of each epoch: a bar that moves, a line, a row."""

import csv
import logging
import sys
import time
from pathlib import Path

from lightning import Callback
from tqdm import tqdm

from thaw.pages.duration import duration
from thaw.training.best import ranking

log = logging.getLogger(__name__)

COLUMNS = ("epoch", "phase", "lr", "train/loss", "train/acc", "val/loss", "val/acc", "val/macro_acc", "seconds")


class EpochTable(Callback):
    """Appends a row to `metrics.csv` and says a line after every epoch; epochs and phases are counted from 1.

    `rows` holds the same values; `training_seconds` and `validation_seconds` add up over the run, also over one that
    is continued: the checkpoint it goes on from says which rows the file holds. Without a `path` nothing is written.
    """

    def __init__(self, path: str | Path | None = None):
        self.path = Path(path) if path else None
        self.rows: list[dict] = []
        self.training_seconds = self.validation_seconds = 0.0
        self._start = self._epoch_start = self._rate = 0.0
        self._spent = self._validation = 0.0
        self._before = 0
        self._ranked = None

    def setup(self, trainer, classifier, stage: str) -> None:
        if not trainer.is_global_zero:
            self.path = None

    def on_train_start(self, trainer, classifier) -> None:
        self._ranked = ranking(trainer, COLUMNS)
        now = time.perf_counter()
        self._start = self._start or now
        self._epoch_start = now - self._spent  # of an epoch that only goes on
        if not self.rows:
            self._write(COLUMNS, mode="w")

    def state_dict(self) -> dict:
        seconds = [self.training_seconds, self.validation_seconds]
        begun = {"rate": self._rate, "seconds": time.perf_counter() - self._epoch_start}
        return {"rows": self.rows, "seconds": seconds, "epoch": begun}

    def load_state_dict(self, state: dict) -> None:
        self.rows, (self.training_seconds, self.validation_seconds) = list(state["rows"]), state["seconds"]
        self._rate, self._spent = state["epoch"]["rate"], state["epoch"]["seconds"]
        self._before = len(self.rows)
        self._write(COLUMNS, mode="w")
        for row in self.rows:
            self._write(row.values())

    def on_train_epoch_start(self, trainer, classifier) -> None:
        self._epoch_start, self._validation = time.perf_counter(), 0.0

    def on_validation_start(self, trainer, classifier) -> None:
        self._validation_start = time.perf_counter()

    def on_validation_end(self, trainer, classifier) -> None:
        self._validation = time.perf_counter() - self._validation_start

    def on_train_epoch_end(self, trainer, classifier) -> None:
        seconds = time.perf_counter() - self._epoch_start
        self.validation_seconds += self._validation
        self.training_seconds += seconds - self._validation
        metrics = {name: float(f"{value:.7g}") for name, value in trainer.callback_metrics.items()}  # float32's digits
        row = {
            "epoch": trainer.current_epoch + 1,
            "phase": classifier.phase.number,
            "lr": self._rate,
            **{name: metrics[name] for name in COLUMNS if "/" in name},
            "seconds": round(seconds, 3),
        }
        self.rows.append(row)
        self._write(row.values())
        log.info(self._line(row, classifier.phase.total))

    def on_train_batch_start(self, trainer, classifier, batch, index) -> None:
        if index == 0:  # of all groups the head's is the last; its rate is the one the epoch starts with
            self._rate = trainer.optimizers[0].param_groups[-1]["lr"]

    def _line(self, row: dict, epochs: int) -> str:
        a_row = (time.perf_counter() - self._start) / (len(self.rows) - self._before)  # with all that is saved
        left = (epochs - row["epoch"]) * a_row
        return (
            f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}  "
            f"train loss {row['train/loss']:.4f} acc {row['train/acc']:.4f}  "
            f"val loss {row['val/loss']:.4f} acc {row['val/acc']:.4f}  {row['seconds']:.1f} s"
            + (f", {duration(left)} left" if left else "")
            + ("  best so far" if self._ranked and max(self.rows, key=self._ranked) is row else "")
        )

    def _write(self, values, mode: str = "a") -> None:
        if self.path:
            with self.path.open(mode, newline="") as file:
                csv.writer(file).writerow(values)


class EpochBar(Callback):
    """One progress bar an epoch, training and validation together; only where a terminal shows it."""

    def __init__(self):
        self._bar = tqdm(disable=True)

    def on_train_epoch_start(self, trainer, classifier) -> None:
        self._bar = tqdm(
            total=trainer.num_training_batches + sum(trainer.num_val_batches),
            desc=f"epoch {trainer.current_epoch + 1}/{classifier.phase.total}",
            unit="batch",
            leave=False,
            disable=not sys.stderr.isatty() or not trainer.is_global_zero,
        )

    def on_train_batch_end(self, trainer, classifier, outputs, batch, index) -> None:
        self._bar.update()

    def on_validation_batch_end(self, trainer, classifier, outputs, batch, index, loader=0) -> None:
        self._bar.update()

    def on_validation_end(self, trainer, classifier) -> None:
        self._bar.close()

    def on_exception(self, trainer, classifier, exception) -> None:
        self._bar.close()
