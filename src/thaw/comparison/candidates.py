"""Group finished runs into candidates: a candidate is a configuration, with its runs of all seeds and folds."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import getitem
from statistics import mean, median
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from thaw.comparison.finished_runs import Run, Trial, grouped
from thaw.evaluation.confusion import confusion_counts
from thaw.evaluation.statistics import Correctness

# Overrides that a candidate's name omits, because they appear elsewhere or do not distinguish candidates.
_NAMELESS = ("strategy=", "seed=", "data.fold=", "hydra.")


@dataclass(frozen=True)
class Candidate:
    """The finished runs of one configuration. A trial contains the runs of one seed, one run per fold."""

    name: str
    trials: Sequence[Trial]

    @property
    def runs(self) -> list[Run]:
        return [run for trial in self.trials for run in trial.runs]

    @property
    def metric(self) -> str:
        return self.trials[0].metric

    @cached_property
    def correctness(self) -> Correctness:
        """Return which predictions are right; with several classes per image, each image's part of the mAP."""
        if self.metric == "map":
            return Correctness(np.array([trial.influence for trial in self.trials]), self._groups)
        right = [[label == predicted for _, label, predicted, _ in trial.predictions] for trial in self.trials]
        return Correctness(np.array(right), self._groups)

    @cached_property
    def robustness(self) -> Correctness | None:
        """Return the correctness on corrupted images, or None if a run was not tested on corrupted images."""
        shares = [trial.corrupted for trial in self.trials]
        complete = all(shares) and len({len(one) for one in shares}) == 1
        return Correctness(np.array(shares), self._groups) if complete else None

    @property
    def _groups(self) -> np.ndarray | None:
        groups = self.trials[0].groups
        return np.array(groups) if groups and len(set(groups)) > 1 else None

    @cached_property
    def votes(self) -> list[Counter]:
        """Return a Counter per image, sorted by path, with the number of seeds that predicted each class."""
        columns = zip(*([row[2] for row in trial.predictions] for trial in self.trials), strict=True)
        return [Counter(column) for column in columns]

    def mean(self, *keys: str) -> float:
        """Return the mean of one entry of the runs' summaries; `keys` is the path to the entry."""
        return mean(self._entries(keys))

    def median(self, *keys: str) -> float:
        return median(self._entries(keys))

    def _entries(self, keys: Sequence[str]) -> list[Any]:
        return [reduce(getitem, keys, run.summary) for run in self.runs]

    def average_precisions(self) -> np.ndarray:
        """Return each class's average precision, float (classes,): the mean over seeds."""
        return np.mean([trial.average_precisions for trial in self.trials], axis=0)

    def confusion(self, classes: Sequence[str]) -> csr_array:
        """Return the confusion matrix (true class, predicted class) of all runs together."""
        place = {name: index for index, name in enumerate(classes)}
        pairs = [(place[label], place[predicted]) for run in self.runs for _, label, predicted, _ in run.predictions]
        labels, predicted = np.array(pairs).T
        return confusion_counts(labels, predicted, len(classes))


def candidates(trials: Sequence[Trial]) -> list[Candidate]:
    """Group trials by configuration, and return the candidates, the most accurate first."""
    alike = grouped(trials, lambda trial, other: trial.configuration == other.configuration)
    groups = [sorted(group, key=lambda trial: trial.seed) for group in alike]
    found = [Candidate(name, group) for name, group in zip(_names(groups), groups, strict=True)]
    return sorted(found, key=lambda candidate: -candidate.correctness.accuracy)


def _names(groups: Sequence[Sequence[Trial]]) -> list[str]:
    """Name each group by the overrides that not all groups have, and by its strategy if the strategies differ."""
    first = [group[0].runs[0] for group in groups]
    distinctive = [[o for o in run.overrides if not o.startswith(_NAMELESS)] for run in first]
    strategies = [run.summary["strategy"] for run in first]
    names: list[str] = []
    for overrides, strategy in zip(distinctive, strategies, strict=True):
        own = [override for override in overrides if not all(override in others for others in distinctive)]
        named = [strategy] if len(set(strategies)) > 1 or not own else []
        names.append(" ".join([*named, *own]))
    earlier = [names[:place].count(name) for place, name in enumerate(names)]
    return [f"{name} ({count + 1})" if count else name for name, count in zip(names, earlier, strict=True)]
