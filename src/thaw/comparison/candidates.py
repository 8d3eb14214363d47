"""Candidates: finished runs that differ only in seed and fold, under one name."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import mean, median
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from thaw.comparison.finished_runs import Run, Trial
from thaw.evaluation.confusion import confusion_counts
from thaw.evaluation.statistics import Correctness

# Overrides that are not part of a name: they are shown elsewhere, or do not distinguish candidates.
_NAMELESS = ("strategy=", "seed=", "data.fold=", "hydra.")


@dataclass(frozen=True)
class Candidate:
    """Finished runs of one configuration, with one trial per seed."""

    name: str
    trials: Sequence[Trial]

    @property
    def runs(self) -> list[Run]:
        return [run for trial in self.trials for run in trial.runs]

    @cached_property
    def correctness(self) -> Correctness:
        right = [[label == predicted for _, label, predicted, _ in trial.predictions] for trial in self.trials]
        return Correctness(np.array(right))

    @cached_property
    def votes(self) -> list[Counter]:
        """Return for every image, in the order of the paths, how many seeds predicted each class."""
        columns = zip(*([row[2] for row in trial.predictions] for trial in self.trials), strict=True)
        return [Counter(column) for column in columns]

    def mean(self, *keys: str) -> float:
        """Return the mean, over the runs, of an entry of their summaries."""
        return mean(_entry(run, keys) for run in self.runs)

    def median(self, *keys: str) -> float:
        return median(_entry(run, keys) for run in self.runs)

    def confusion(self, classes: Sequence[str]) -> csr_array:
        """Return the counts (true class, predicted class) of all runs together."""
        place = {name: index for index, name in enumerate(classes)}
        pairs = [(place[label], place[predicted]) for run in self.runs for _, label, predicted, _ in run.predictions]
        labels, predicted = np.array(pairs).T
        return confusion_counts(labels, predicted, len(classes))


def candidates(trials: Sequence[Trial]) -> list[Candidate]:
    """Group trials by configuration; return the candidates, the most accurate first."""
    groups: list[list[Trial]] = []
    for trial in trials:
        same = next((group for group in groups if group[0].configuration == trial.configuration), None)
        if same is None:
            groups.append([trial])
        else:
            same.append(trial)
    grouped = [sorted(group, key=lambda trial: trial.seed) for group in groups]
    found = [Candidate(name, group) for name, group in zip(_names(grouped), grouped, strict=True)]
    return sorted(found, key=lambda candidate: -candidate.correctness.accuracy)


def _names(groups: Sequence[Sequence[Trial]]) -> list[str]:
    """Name each group by what distinguishes it: its strategy, if that differs, and its own overrides."""
    first = [group[0].runs[0] for group in groups]
    distinctive = [[o for o in run.overrides if not o.startswith(_NAMELESS)] for run in first]
    strategies = [run.summary["strategy"] for run in first]
    names: list[str] = []
    for overrides, strategy in zip(distinctive, strategies, strict=True):
        own = [override for override in overrides if not all(override in others for others in distinctive)]
        named = [strategy] if len(set(strategies)) > 1 or not own else []
        names.append(" ".join([*named, *own]))
    return [_numbered(name, names[:place]) for place, name in enumerate(names)]


def _numbered(name: str, before: Sequence[str]) -> str:
    count = before.count(name)
    return f"{name} ({count + 1})" if count else name


def _entry(run: Run, keys: Sequence[str]) -> float:
    value: Any = run.summary
    for key in keys:
        value = value[key]
    return value
