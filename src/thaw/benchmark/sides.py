"""Run Thaw and the plain PyTorch loop as separate processes, and read their measurements."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from thaw.benchmark.cases import SWEPT_RATES, SWEPT_SEEDS, Task
from thaw.errors import RunError
from thaw.runs import run_files
from thaw.runs.shown_commands import quoted
from thaw.runs.summary import read_summary
from thaw.storage.files import read_rows

_LOG_TAIL = 500  # characters of a failed process's log that are read


@dataclass(frozen=True)
class Sides:
    """Settings for both Thaw and the plain PyTorch loop; `batch_size` applies to Thaw (None: Thaw's default).

    Logs and files of all processes stay in `out/processes`, except checkpoints, which would fill the disk.
    """

    root: Path
    weights: Path
    model: str
    classes: int
    out: Path
    train_size: int = 256
    image_size: int = 224
    batch_size: int | None = None

    def warm_up(self) -> None:
        """Read libraries and images once; otherwise the first measurement would include slow reads from disk."""
        for path in self.root.rglob("*"):
            if path.is_file():
                path.read_bytes()
        imports = "import thaw.benchmark.loop, thaw.demo.pretraining, thaw.report.results"
        self._timed([sys.executable, "-c", imports], self._new_folder("warm-up"))

    def measure(self, task: Task) -> dict:
        """Run `task`; return its measurements, such as `seconds` for all processes and `epochs`, the seconds per epoch.

        Raises:
            RunError: if a process fails; the message names its log.

        """
        folder = self._new_folder(task.name)
        if task.side == "ceiling":
            return self._ceiling(folder)
        if task.side == "thaw":
            return self._sweep(folder, task) if task.sweep else self._thaw(folder, task)
        if not task.sweep:
            return self._loop(folder, task)
        jobs = [(lr, seed) for lr in SWEPT_RATES for seed in SWEPT_SEEDS]
        runs = [self._loop(folder / f"{lr}-{seed}", task, lr, seed) for lr, seed in jobs]
        return {"seconds": sum(run["seconds"] for run in runs), "runs": runs}

    def empty_cache(self) -> None:
        shutil.rmtree(self._cache, ignore_errors=True)

    @property
    def _cache(self) -> Path:
        return self.out / "cache"

    def _new_folder(self, name: str) -> Path:
        number = len(list((self.out / "processes").glob("*"))) + 1
        folder = self.out / "processes" / f"{number:03d}-{name.replace(' ', '-')}"
        folder.mkdir(parents=True)
        return folder

    def _loop(self, folder: Path, task: Task, lr: float = 0.001, seed: int = 0) -> dict:
        folder.mkdir(exist_ok=True)
        result = folder / "result.json"
        options = {
            "model": self.model,
            "weights": self.weights,
            "strategy": task.strategy,
            "epochs": task.epochs,
            "train-size": self.train_size,
            "image-size": self.image_size,
            "lr": lr,
            "seed": seed,
        }
        flags = [f"--{name}={value}" for name, value in options.items()]
        start = time.time()
        seconds = self._timed([sys.executable, "-m", "thaw.benchmark.loop", self.root, result, *flags], folder)
        measured = json.loads(result.read_text())
        return {
            "seconds": seconds,
            "startup": measured["began"] - start,
            "epochs": [epoch["train"] + epoch["val"] for epoch in measured["epochs"]],
            "accuracy": max(epoch["val_acc"] for epoch in measured["epochs"]),
            "parts": measured["epochs"],
            "device": measured["device"],
        }

    def _thaw(self, folder: Path, task: Task) -> dict:
        if not task.warm:
            self.empty_cache()
        run = folder / "run"
        seconds = self._train([*self.overrides(task), override("hydra.run.dir", run)], folder)
        return {"seconds": seconds, **read_run(run)}

    def _sweep(self, folder: Path, task: Task) -> dict:
        self.empty_cache()
        lists = {"strategy.lr": SWEPT_RATES, "seed": SWEPT_SEEDS}
        swept = [f"{name}={','.join(map(str, values))}" for name, values in lists.items()]
        jobs = [*self.overrides(task), *swept, override("hydra.sweep.dir", folder / "runs")]
        seconds = self._train(["-m", *jobs], folder)
        runs = [read_run(path.parent) for path in sorted((folder / "runs").glob("*/summary.json"))]
        return {"seconds": seconds, "runs": runs}

    def _ceiling(self, folder: Path) -> dict:
        result = folder / "result.json"
        task = Task("thaw", "fine_tune", epochs=1)
        where = [result, self.classes]
        command = [sys.executable, "-m", "thaw.benchmark.ceiling", *where, *self.overrides(task)]
        return {"seconds": self._timed(command, folder), **json.loads(result.read_text())}

    def overrides(self, task: Task) -> list[str]:
        """Return the Hydra overrides for Thaw's run of `task`; all other options keep their defaults."""
        return [
            "data=image_folder",
            override("data.root", self.root),
            "data.preprocessing._target_=thaw.models.sizes.tutorial_preprocessing",  # as in loop.py
            f"data.train_size={self.train_size}",
            f"data.image_size={self.image_size}",
            *([f"data.batch_size={self.batch_size}"] if self.batch_size else []),
            "model=torchvision",
            f"model.name={self.model}",
            override("weights", self.weights),
            f"strategy={task.strategy}",
            f"trainer.max_epochs={task.epochs}",
        ]

    def _train(self, overrides: list[str], folder: Path) -> float:
        try:
            return self._timed([sys.executable, "-m", "thaw.commands", "train", *overrides], folder)
        finally:
            for checkpoints in list(folder.rglob("checkpoints")):
                shutil.rmtree(checkpoints)

    def _timed(self, command: list, folder: Path) -> float:
        environment = {**os.environ, "THAW_CACHE": str(self._cache)}
        log = folder / "log.txt"
        with log.open("w") as file:
            start = time.perf_counter()
            done = subprocess.run([str(word) for word in command], env=environment, stdout=file, stderr=file)
            seconds = time.perf_counter() - start
        if done.returncode:
            words = log.read_text().strip()[-_LOG_TAIL:].rpartition("\n")[2]
            raise RunError(f"a process ended with status {done.returncode}; its log {log} ends with: {words}")
        return seconds


def read_run(run: Path) -> dict:
    """Return the speed and settings of a run of Thaw, read from its folder."""
    summary = read_summary(run)
    if summary["status"] != "finished":
        raise RunError(f"the run in {run} has the status {summary['status']}: {summary['error']}")
    config = OmegaConf.load(run / run_files.CONFIG)
    epochs = [float(row["seconds"]) for row in read_rows(run / run_files.METRICS)]
    return {
        "epochs": epochs,
        "accuracy": summary["val"]["acc"],
        "train_images_per_second": _steady_rate(epochs, summary),
        "parts": summary["seconds"],
        "device": summary["device"],
        "precision": summary["precision"],
        "batch_size": config.data.batch_size,
        "channels_last": config.channels_last,
    }


def _steady_rate(epochs: list[float], summary: dict) -> float:
    """Return training images per second in the median epoch, because the first epoch includes a warm-up."""
    seconds = summary["seconds"]
    images = summary["train_images_per_second"] * seconds["training"] / len(epochs)
    return images / (statistics.median(epochs) - seconds["validation"] / len(epochs))


def override(key: str, value: object) -> str:
    """Return the override `key=value`, with the value quoted for Hydra."""
    return f"{key}={quoted(value)}"
