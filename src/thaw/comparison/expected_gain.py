"""Expected gain from more labels, read off the curve of a finished `sweep=label_budget`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thaw.comparison.finished_runs import Run
from thaw.errors import UserError
from thaw.pages.text import amount
from thaw.runs.configuration import is_run


@dataclass(frozen=True)
class Gain:
    """Expected accuracy with the present labels and with `more` labels, and the number of runs behind the curve."""

    now: float
    then: float
    more: int
    runs: int

    def __str__(self) -> str:
        more, runs = amount(self.more, "more label"), amount(self.runs, "run")
        return f"With {more}, the expected val/acc is {self.then:.4f} instead of {self.now:.4f} (curve of {runs})."


@dataclass(frozen=True)
class LabelBudget:
    """Finished runs of a `sweep=label_budget`, all with the strategy of the run at hand.

    `shares` are their shares of the training images, float (n,), and `errors` the errors, float (n,). `share` is the
    share of the run at hand.
    """

    shares: np.ndarray
    errors: np.ndarray
    share: float

    def gain(self, labelled: int, more: int) -> Gain:
        """Return the expected gain from `more` labels, in addition to the `labelled` training images of the run.

        The errors are fitted by a * n^-b for n training images (Hestness et al. 2017).
        """
        counts = labelled / self.share * self.shares
        slope, start = np.polyfit(np.log(counts), np.log(self.errors), 1)
        now, then = (1 - float(np.exp(start + min(slope, 0) * np.log(n))) for n in (labelled, labelled + more))
        return Gain(now, then, more, len(counts))


def read_label_budget(sweep: Path, run: Path) -> LabelBudget:
    """Return the finished runs in the folder `sweep` with the strategy, network and classes of `run`.

    Raises:
        UserError: if there are no such runs with at least two numbers of training images.

    """
    own = Run(run)
    strategy, network, _ = kind = _kind(own)
    runs = [Run(folder) for folder in sorted(sweep.glob("*")) if is_run(folder)]
    same = [one for one in runs if one.finished and _kind(one) == kind]
    shares = np.array([_share(one) for one in same])
    if len(set(shares.tolist())) < 2:
        raise UserError(
            f"--curve {sweep} needs finished runs of {strategy} with {network} on the classes of {run}, with at least "
            f"two values of data.train_share; python train.py sweep=label_budget strategy={strategy} … trains them."
        )
    images = np.array([one.summary["val"]["n"] for one in same])
    wrong = np.array([(1 - one.accuracy) * n for one, n in zip(same, images, strict=True)])
    return LabelBudget(shares, (wrong + 0.5) / (images + 1), _share(own))  # errors above 0, even without mistakes


def _kind(run: Run) -> tuple[str, str, list[str]]:
    """Return a run's strategy, network and classes."""
    values = run.configuration
    return values["strategy"]["name"], str(values["model"].get("name")), run.summary.get("classes", [])


def _share(run: Run) -> float:
    return run.configuration["data"]["train_share"]
