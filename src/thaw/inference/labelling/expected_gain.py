"""Expected gain from more labels, read off the curve of a finished `sweep=label_budget`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thaw.comparison.finished_runs import Run
from thaw.errors import UserError
from thaw.runs.configuration import is_run


@dataclass(frozen=True)
class Gain:
    """Expected accuracy with the present labels and with `more` labels, and the number of runs behind the curve."""

    now: float
    then: float
    more: int
    runs: int


def expected_gain(sweep: Path, run: Path, labelled: int, more: int) -> Gain:
    """Return the expected gain from `more` labels, in addition to the `labelled` training images of `run`.

    The error of the sweep's runs with the strategy of `run` is fitted by a * n^-b for n training images (Hestness et
    al. 2017).

    Raises:
        UserError: if the sweep has no finished runs with this strategy and two numbers of training images.

    """
    strategy, share = _facts(Run(run))
    runs = [Run(folder) for folder in sorted(sweep.glob("*")) if is_run(folder)]
    same = [one for one in runs if one.finished and _facts(one)[0] == strategy]
    shares = np.array([_facts(one)[1] for one in same])
    if len(set(shares.tolist())) < 2:
        raise UserError(
            f"--curve {sweep} needs finished runs of {strategy} with at least two values of data.train_share; "
            f"python train.py sweep=label_budget strategy={strategy} trains them."
        )
    counts, slope, start = labelled / share * shares, *_fitted(labelled / share * shares, same)
    now, then = (1 - float(np.exp(start + slope * np.log(number))) for number in (labelled, labelled + more))
    return Gain(now, then, more, len(counts))


def _facts(run: Run) -> tuple[str, float]:
    """Return the strategy of a run and its share of the training images."""
    return run.configuration["strategy"]["name"], run.configuration["data"]["train_share"]


def _fitted(counts: np.ndarray, runs: Sequence[Run]) -> tuple[float, float]:
    """Return slope and intercept of the line through log error over log number of training images."""
    images = np.array([one.summary["val"]["n"] for one in runs])
    wrong = np.array([(1 - one.accuracy) * n for one, n in zip(runs, images, strict=True)])
    errors = (wrong + 0.5) / (images + 1)  # more than 0, even without mistakes
    slope, start = np.polyfit(np.log(counts), np.log(errors), 1)
    return min(float(slope), 0.0), float(start)
