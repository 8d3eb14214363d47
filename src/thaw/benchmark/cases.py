"""The benchmark's cases (what is timed), and the order in which their processes run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

SWEPT_RATES, SWEPT_SEEDS = (0.003, 0.01, 0.03), (0, 1, 2)


@dataclass(frozen=True)
class Task:
    """A process to time, or, for a sweep of the plain PyTorch loop, several processes in sequence.

    `side` is loop (plain PyTorch), thaw, or ceiling (see `thaw.benchmark.ceiling`). A `warm` task reuses the cache of
    the task before it.
    """

    side: str
    strategy: str
    epochs: int
    warm: bool = False
    sweep: bool = False

    @property
    def name(self) -> str:
        return " ".join([self.side, self.strategy, *["warm"] * self.warm, *["sweep"] * self.sweep])

    def __str__(self) -> str:
        return self.name if self.side == "ceiling" else f"{self.name}, {self.epochs} epoch{'s' * (self.epochs > 1)}"


@dataclass(frozen=True)
class Case:
    """A row of the benchmark's table; `timed` describes what is measured."""

    strategy: str
    epochs: int
    timed: str
    warm: bool = False
    sweep: bool = False
    ceiling: bool = False


CASES = {
    "fine_tune": Case("fine_tune", 3, "an epoch"),
    "feature_extractor_cold": Case("feature_extractor", 10, "the whole run"),
    "feature_extractor_warm": Case("feature_extractor", 10, "the whole run, repeated", warm=True),
    "layer3_layer4": Case("layer3_layer4", 3, "the whole run"),
    "sweep": Case("feature_extractor", 10, f"{len(SWEPT_RATES) * len(SWEPT_SEEDS)} whole runs", sweep=True),
    "synthetic": Case("fine_tune", 3, "training images per second", ceiling=True),
}


def thaw_task(case: Case, epochs: int | None = None) -> Task:
    return Task("thaw", case.strategy, epochs or case.epochs, case.warm, case.sweep)


def reference_task(case: Case, epochs: int | None = None, every_loop: bool = False) -> Task:
    """Return the task with which Thaw is compared. With `every_loop`, the loop runs a sweep instead of one run."""
    side = "ceiling" if case.ceiling else "loop"
    return Task(side, case.strategy, epochs or case.epochs, sweep=case.sweep and every_loop)


def plan(names: Sequence[str], repeats: int, epochs: int | None = None, every_loop: bool = False) -> list[Task]:
    """Return every task `repeats` times, alternating (loop, Thaw, loop, …), so that both have similar conditions."""
    groups: dict[str, dict[Task, None]] = {}
    for case in (case for name, case in CASES.items() if name in names):
        thaw = thaw_task(case, epochs)
        before = [replace(thaw, warm=False)] if case.warm else []
        needed = [reference_task(case, epochs, every_loop), *before, thaw]
        groups.setdefault(case.strategy, {}).update(dict.fromkeys(needed))
    return [task for group in groups.values() for _ in range(repeats) for task in group]
