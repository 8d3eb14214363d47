"""Read runs from their folders, and group runs into trials."""

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
from omegaconf import OmegaConf

from thaw.errors import UserError
from thaw.evaluation.average_precision import average_precision, influence
from thaw.evaluation.predictions_table import Row, read_label_scores, read_predictions
from thaw.pages.metric_names import metric_of
from thaw.runs import run_files
from thaw.runs.configuration import is_run, read_resolved
from thaw.runs.summary import read_summary
from thaw.storage.files import read_rows

Item = TypeVar("Item")


@dataclass(frozen=True)
class Run:
    """A run, finished or not, read from its folder. Its results are those on `split`, which is `val` or `test`."""

    folder: Path
    split: str = "val"

    @cached_property
    def summary(self) -> dict:
        """Return the content of summary.json, or an empty dict if the run has not ended."""
        return read_summary(self.folder)

    @cached_property
    def configuration(self) -> dict:
        """Return the configuration without seed and fold. Runs with equal configurations differ only by chance."""
        values = self._resolved()
        seed, data = values.pop("seed", None), values.get("data", {})
        if data.get("seed") == seed:
            data.pop("seed", None)
        data.pop("fold", None)
        return values

    @cached_property
    def fold(self) -> int:
        return self._resolved().get("data", {}).get("fold", 0)

    def _resolved(self) -> dict:
        return read_resolved(self.folder) if is_run(self.folder) else {}

    @cached_property
    def overrides(self) -> list[str]:
        """Return the overrides of the command that started the run."""
        path = self.folder / ".hydra" / "overrides.yaml"
        given = cast("list[str]", OmegaConf.load(path)) if path.is_file() else []
        return [override for override in given if not override.startswith(("resume=", "sweep="))]

    @property
    def command(self) -> str:
        return shlex.join(["python", "train.py", *self.overrides])

    @property
    def status(self) -> str | None:
        return self.summary.get("status")

    @property
    def finished(self) -> bool:
        return self.status == "finished" and self.split in self.summary

    @property
    def seed(self) -> int:
        return self.summary["seed"]

    @property
    def accuracy(self) -> float:
        """Return the decisive metric, which is mAP if images can have several classes."""
        return self.summary[self.split][self.metric]

    @property
    def metric(self) -> str:
        return metric_of(self.summary)

    @cached_property
    def epochs(self) -> list[dict]:
        """Return the rows of metrics.csv, one per epoch, with all values as float."""
        path = self.folder / run_files.METRICS
        rows = read_rows(path) if path.is_file() else []
        return [{key: float(value) for key, value in row.items()} for row in rows]

    @cached_property
    def predictions(self) -> list[Row]:
        """Return (path, label, predicted, confidence) of every image of the split, sorted by path."""
        return sorted(read_predictions(self._table))

    @property
    def _table(self) -> Path:
        return self.folder / (run_files.PREDICTIONS if self.split == "val" else run_files.TEST_PREDICTIONS)

    @cached_property
    def label_scores(self) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Return `predictions_table.read_label_scores` of the split, for images that can have several classes."""
        return read_label_scores(self._table, self.summary["classes"])

    @cached_property
    def groups(self) -> dict[str, str]:
        """Return the group of each image, or {} if the run's images have no groups."""
        path = self.folder / run_files.GROUPS
        return {row["path"]: row["group"] for row in read_rows(path)} if path.is_file() else {}

    @cached_property
    def corrupted(self) -> dict[str, float]:
        """Return, for each validation image, the share of corrupted copies that the run classified correctly."""
        path = self.folder / run_files.CORRUPTED_PREDICTIONS
        rows = read_rows(path) if path.is_file() else []
        return {row.pop("path"): sum(map(int, row.values())) / len(row) for row in rows}


@dataclass(frozen=True)
class Trial:
    """The runs of one configuration and seed, one per fold; together they count as one run."""

    runs: Sequence[Run]

    @property
    def seed(self) -> int:
        return self.runs[0].seed

    @property
    def configuration(self) -> dict:
        return self.runs[0].configuration

    @cached_property
    def predictions(self) -> list[Row]:
        """Return the rows of `Run.predictions` of all folds together, sorted by path."""
        return sorted(row for run in self.runs for row in run.predictions)

    @property
    def metric(self) -> str:
        return self.runs[0].metric

    @cached_property
    def influence(self) -> np.ndarray:
        """Return each image's influence on the mAP, sorted by path; the mAP of folds is the mean over their images.

        Images of different folds are not ranked together, because different models gave them their scores.
        """
        found = [run.label_scores for run in self.runs]
        order = np.argsort([path for paths, _, _ in found for path in paths], kind="stable")
        return np.concatenate([influence(labels, scores) for _, labels, scores in found])[order]

    @cached_property
    def average_precisions(self) -> np.ndarray:
        """Return the average precision of each class, float (classes,); the mean over folds that have the class."""
        return np.nanmean([average_precision(*run.label_scores[1:]) for run in self.runs], axis=0)

    @cached_property
    def groups(self) -> list[str] | None:
        """Return the group of each image, sorted by path, or None if the images have no groups."""
        known = {path: group for run in self.runs for path, group in run.groups.items()}
        return [known[path] for path, *_ in self.predictions] if known else None

    @cached_property
    def corrupted(self) -> list[float]:
        """Return `Run.corrupted` of all folds together, sorted by path; [] if a run tested no corrupted images."""
        if not all(run.corrupted for run in self.runs):
            return []
        return [share for _, share in sorted(item for run in self.runs for item in run.corrupted.items())]

    @cached_property
    def images(self) -> tuple:
        """Return a key that identifies the split's images; trials with equal keys can be compared image by image."""
        contents = tuple(run.summary.get("fingerprint", {}).get(run.split) for run in self.runs)
        return self.metric, contents, tuple((path, label) for path, label, _, _ in self.predictions)


def no_run(where: str) -> UserError:
    """Return the UserError for the path `where`, which contains no run."""
    return UserError(f"there is no run in {where}: a run's folder holds {run_files.SUMMARY} and {run_files.HYDRA}.")


def read_run(folder: str | Path) -> Run:
    """Return the run in `folder`.

    Raises:
        UserError: if there is no run in `folder`.

    """
    run = Run(Path(folder))
    if not (run.folder / ".hydra").is_dir():
        raise no_run(str(folder))
    return run


def read_runs(folder: str | Path) -> list[Run]:
    """Return all runs in `folder` and below, such as those of a sweep, sorted by path."""
    return find_runs([Path(folder)])


def find_runs(folders: Iterable[Path]) -> list[Run]:
    """Return all runs in `folders` and below, each run once."""
    found = {
        path.parent.resolve(): None for folder in folders for path in sorted(Path(folder).rglob(run_files.SUMMARY))
    }
    return [Run(folder) for folder in found if (folder / ".hydra").is_dir()]


def without_repetitions(runs: Sequence[Run]) -> list[Run]:
    """Return `runs`; of several runs with equal configuration, seed and fold, keep only the newest."""
    repeated = grouped(runs, lambda run, other: _same_trial(run, other) and run.fold == other.fold)
    kept = [max(group, key=lambda run: (run.folder / run_files.SUMMARY).stat().st_mtime_ns) for group in repeated]
    return [run for run in runs if run in kept]


def trials(runs: Sequence[Run]) -> list[Trial]:
    """Group runs by configuration and seed; return the trials in the order of their first runs."""
    return [Trial(sorted(group, key=lambda run: run.fold)) for group in grouped(runs, _same_trial)]


def grouped(items: Iterable[Item], alike: Callable[[Item, Item], bool]) -> list[list[Item]]:
    """Group the items that are `alike`; return the groups in the order of their first items."""
    groups: list[list[Item]] = []
    for item in items:
        group = next((group for group in groups if alike(item, group[0])), None)
        groups.append([item]) if group is None else group.append(item)
    return groups


def _same_trial(run: Run, other: Run) -> bool:
    return run.seed == other.seed and run.configuration == other.configuration
