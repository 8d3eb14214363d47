"""The trials of a search, in Optuna's journal file. Processes that share the file share the search."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock
from optuna.trial import FrozenTrial, TrialState

from thaw.sweep.search.rungs import Epoch, epoch_rank

JOURNAL = "search.journal"
_STUDY = "search"
_CLAIMS = "claims"
_EXTENT, FINALISTS, WINNER = "extent", "finalists", "winner"  # what is noted of the whole search


@dataclass(frozen=True)
class Trial:
    """A configuration that the search has tried or is trying.

    Attributes:
        curves: validation accuracy and loss of each epoch, for each repetition that has begun.
        epochs: the number of epochs of one repetition.
        accuracy: the mean, over the repetitions, of the best epoch's accuracy; None without a finished epoch.
        loss: the mean validation loss of the same epochs.
        reason: why the trial ended early or failed.

    """

    number: int  # counted from 0
    state: TrialState
    params: dict[str, Any] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    curves: list[list[Epoch]] = field(default_factory=list)
    epochs: int = 0
    accuracy: float | None = None
    loss: float | None = None
    seconds: float = 0.0
    ended: float = 0.0  # seconds of the budget that were used when it ended
    reason: str | None = None

    @property
    def open(self) -> bool:
        return self.state in (TrialState.RUNNING, TrialState.WAITING)

    @property
    def complete(self) -> bool:
        return self.state == TrialState.COMPLETE

    @property
    def score(self) -> tuple[float, float]:
        """Return a key that is larger for better trials: the accuracy, then the loss."""
        return epoch_rank(
            (-1.0 if self.accuracy is None else self.accuracy, math.nan if self.loss is None else self.loss)
        )


class _KernelLock(BaseJournalFileLock):
    """Lock of the journal that the kernel releases when its owner dies, however it dies.

    A process that died while it wrote leaves half a line, which nobody could read: the next owner removes it.
    """

    def __init__(self, journal: Path):
        self._journal, self._lock = journal, FileLock(f"{journal}.lock")

    def acquire(self) -> bool:
        self._lock.acquire()
        if self._journal.is_file():
            with self._journal.open("rb+") as file:
                written = file.read()
                if not written.endswith(b"\n"):
                    file.truncate(written.rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        self._lock.release()


class _Given(BaseSampler):
    """Sampler of the values in `values`, which are chosen elsewhere."""

    values: Mapping[str, Any] = {}

    def infer_relative_search_space(self, study, trial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(self, study, trial, search_space) -> dict[str, Any]:
        return {}

    def sample_independent(self, study, trial, param_name: str, param_distribution: BaseDistribution) -> Any:
        return self.values[param_name]


class TrialRecord:
    """The trials in `folder`. Every change is in the journal before the call that makes it returns."""

    def __init__(self, folder: Path):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._folder = folder / _CLAIMS
        self._folder.mkdir(parents=True, exist_ok=True)
        self._mutex = FileLock(folder / f"{JOURNAL}.mutex")
        self._sampler = _Given()
        journal = folder / JOURNAL
        storage = JournalStorage(JournalFileBackend(str(journal), _KernelLock(journal)))
        with self.alone():
            self._study = optuna.create_study(
                storage=storage, sampler=self._sampler, study_name=_STUDY, direction="maximize", load_if_exists=True
            )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from choosing trials inside the block."""
        with self._mutex:
            yield

    def trials(self) -> list[Trial]:
        """Return all trials, in the order of their numbers."""
        return [_trial(frozen) for frozen in self._study.get_trials(deepcopy=False)]

    def note(self, key: str, value: Any) -> None:
        """Keep a plain value of the whole search."""
        self._study.set_user_attr(key, value)

    def noted(self, key: str) -> Any:
        """Return a value that `note` kept, or None."""
        return self._study.user_attrs.get(key)

    def start(self, extent: Any) -> None:
        """Begin, or go on after an interruption. With another extent, the last stage is decided anew."""
        with self.alone():
            if self.noted(_EXTENT) != extent:
                for key, value in ((_EXTENT, extent), (FINALISTS, None), (WINNER, None)):
                    self.note(key, value)

    def add(self) -> int:
        """Add a trial without values, and return its number."""
        return self._study.ask().number

    def choose(
        self,
        number: int,
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        overrides: list[str],
    ) -> None:
        """Set the values of a trial. A trial that has values keeps them."""
        frozen = self._study.get_trials(deepcopy=False)[number]
        trial = optuna.Trial(self._study, frozen._trial_id)
        self._sampler.values = params
        for name in params.keys() - frozen.params.keys():
            trial._suggest(name, distributions[name])
        trial.set_user_attr("overrides", overrides)

    def finish(self, number: int, state: TrialState, **facts: Any) -> None:
        """Set the state of a trial and the attributes of `Trial` that only now are known."""
        frozen = self._study.get_trials(deepcopy=False)[number]
        if frozen.state.is_finished():
            return
        trial = optuna.Trial(self._study, frozen._trial_id)
        for epoch, (accuracy, _) in enumerate(next(iter(facts.get("curves", [])), []), start=1):
            trial.report(accuracy, epoch)  # dashboards for Optuna draw them
        trial.set_user_attr("facts", facts)
        value = facts.get("accuracy")
        self._study.tell(number, value if state == TrialState.COMPLETE else None, state=state)

    def claim(self, number: int | str) -> Callable[[], None] | None:
        """Return a function that gives a trial back, or None if a living process has it.

        The kernel gives the trial of a dead process back.
        """
        lock = FileLock(self._folder / str(number))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return None
        except NotImplementedError:  # a file system without locks, which only one process can search on
            return lambda: None
        return lock.release

    def is_claimed(self, number: int | str) -> bool:
        """Return whether a living process has a trial."""
        give_back = self.claim(number)
        if give_back:
            give_back()
        return give_back is None


def _trial(frozen: FrozenTrial) -> Trial:
    facts = dict(frozen.user_attrs.get("facts", {}))
    facts["curves"] = [[(accuracy, loss) for accuracy, loss in curve] for curve in facts.get("curves", [])]
    return Trial(
        frozen.number, frozen.state, dict(frozen.params), list(frozen.user_attrs.get("overrides", [])), **facts
    )


def finished(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that have ended and have an accuracy."""
    return [trial for trial in trials if not trial.open and trial.accuracy is not None]
