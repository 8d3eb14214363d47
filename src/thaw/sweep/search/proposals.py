"""Which configuration a trial tries.

The first trials are the probe on every backbone, then the strategies with their own defaults. Optuna's TPE (Bergstra et
al. 2011, "Algorithms for hyper-parameter optimization") proposes the others. A trial learns only from trials that are
at least `LAG` before it. What it tries therefore does not depend on how many processes search, as long as there are at
most `LAG`.
"""

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import TPESampler
from optuna.trial import create_trial

from thaw.evaluation.statistics import LEVEL, holm, mcnemar
from thaw.sweep.search.search_space import BACKBONE, STRATEGY, Space
from thaw.sweep.search.trial_record import Trial, finished

LAG = 4
PROBE = "probe"
_FIRST = 2  # backbones with which every strategy is tried first
_TIMES_ERROR = 1.5  # a backbone is left out if the probe's error is so many times the best backbone's, beyond chance
_ATTEMPTS = 30  # proposals of TPE, of which the first one that is new is taken
_TINY = 1e-3  # weight of the loss among trials of equal accuracy; rounded, so that the number of threads hardly matters


def known_before(number: int, trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that trial `number` may learn from."""
    return [trial for trial in trials if trial.number <= number - LAG]


def is_ready(number: int, trials: Sequence[Trial], space: Space) -> bool:
    """Return whether all trials that trial `number` learns from have ended."""
    probes = len(space.backbones)
    needed = max(number - LAG + 1, probes if number >= probes else 0)  # the strategies follow all probes
    return not any(trial.open for trial in trials[:needed])


class Proposals:
    """Proposals for the trials of a search.

    Args:
        space: what is varied.
        configured: returns, for parameters, those values of the other dimensions that a run would have by default.
        active: returns those parameters that have an effect together.
        right: returns for a trial which images it classified correctly, bool (n,).
        seed: another seed gives other proposals.

    """

    def __init__(
        self,
        space: Space,
        configured: Callable[[Mapping[str, Any]], dict[str, Any]],
        active: Callable[[Mapping[str, Any]], dict[str, Any]],
        right: Callable[[Trial], np.ndarray],
        seed: int = 0,
    ):
        self.space, self._configured, self._active, self._right, self._seed = space, configured, active, right, seed
        self.distributions = {one.key: one.distribution for one in space.all_dimensions}
        self._known_defaults: dict[tuple[str, str], dict[str, Any]] = {}
        self._known_dropped: dict[str, dict] | None = None

    def overrides(self, params: Mapping[str, Any]) -> list[str]:
        """Return the overrides for parameters, without those that a run has by default."""
        defaults = self._defaults(params[BACKBONE], params[STRATEGY])
        groups = (BACKBONE, STRATEGY)
        chosen = {key: value for key, value in params.items() if key in groups or defaults.get(key) != value}
        return self.space.overrides(chosen)

    def params(self, number: int, trials: Sequence[Trial]) -> dict[str, Any] | None:
        """Return the parameters of trial `number`, or None if nothing new is left to try."""
        tried = [trial.params for trial in trials if trial.number < number]
        starts = self._starts([trial for trial in trials if trial.number < number])
        if number < len(starts):
            return starts[number]
        known = known_before(number, trials)
        dropped = self.dropped(trials)
        for attempt in range(_ATTEMPTS):
            params = self._proposed(known, dropped, (self._seed, number, attempt))
            if params and params not in tried:
                return params
        return None

    def dropped(self, trials: Sequence[Trial]) -> dict[str, dict]:
        """Return the backbones whose probe is clearly worse than the best one: p-value and difference of each.

        The test is McNemar's, corrected for the number of backbones.
        """
        if self._known_dropped is not None:
            return self._known_dropped
        first = trials[: len(self.space.backbones)]
        dropped = self._clearly_worse([trial for trial in first if trial.complete])
        if len(first) == len(self.space.backbones) and not any(trial.open for trial in first):
            self._known_dropped = dropped
        return dropped

    def _clearly_worse(self, probes: Sequence[Trial]) -> dict[str, dict]:
        if len(probes) < 2:
            return {}
        best = max(probes, key=lambda trial: (trial.score, -trial.number))
        others = [trial for trial in probes if trial is not best]
        right, highest = self._right(best), float(best.accuracy or 0)
        ps = holm([mcnemar(right, self._right(trial)) for trial in others])
        found = {}
        for trial, p in zip(others, ps, strict=True):
            accuracy = float(trial.accuracy or 0)
            if p < LEVEL and 1 - accuracy > _TIMES_ERROR * (1 - highest):
                found[trial.params[BACKBONE]] = {"p": p, "difference": accuracy - highest}
        return found

    def _starts(self, before: Sequence[Trial]) -> list[dict[str, Any]]:
        """Return the parameters of the first trials, as far as the trials before decide them."""
        first, names = _first_strategy(self.space), list(self.space.backbones)
        starts = [self._defaults(name, first) for name in names]
        if len(before) < len(starts):
            return starts
        probes = sorted(before[: len(starts)], key=lambda trial: trial.score, reverse=True)
        dropped = self.dropped(before)
        best = [trial.params[BACKBONE] for trial in probes if trial.params[BACKBONE] not in dropped][:_FIRST]
        others = [strategy for strategy in self.space.strategies if strategy != first]
        return starts + [self._defaults(name, strategy) for name in best for strategy in others]

    def _defaults(self, backbone: str, strategy: str) -> dict[str, Any]:
        """Return the parameters of a run with the strategy's default options."""
        key = (backbone, strategy)
        if key not in self._known_defaults:
            params = {BACKBONE: backbone, STRATEGY: strategy}
            self._known_defaults[key] = self._active({**params, **self._configured(params)})
        return self._known_defaults[key]

    def _proposed(
        self, known: Sequence[Trial], dropped: Collection[str], seed: tuple[int, ...]
    ) -> dict[str, Any] | None:
        """Return a proposal of TPE among the backbones and strategies that are worth a proposal."""
        kinds = self._kinds(known, dropped)
        if kinds is None:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = TPESampler(
                seed=int(np.random.default_rng(seed).integers(2**31)), multivariate=True, group=True, n_startup_trials=0
            )
        study = optuna.create_study(sampler=sampler, direction="maximize")
        study.add_trials([_as_complete(trial, kinds) for trial in finished(known) if _lies_in(trial, kinds)])
        trial = study.ask()
        drawn = {key: trial._suggest(key, kind) for key, kind in kinds.items()}
        return self._active({one.key: one.rounded(drawn[one.key]) for one in self.space.all_dimensions})

    def _kinds(self, known: Sequence[Trial], dropped: Collection[str]) -> dict[str, BaseDistribution] | None:
        """Return the distributions without backbones that are left out and strategies without an option to vary.

        TPE would try these values again and again, because few bad trials have them.
        """
        varied = {trial.params[STRATEGY] for trial in known if trial.params.keys() - {BACKBONE, STRATEGY}}
        fixed = {trial.params[STRATEGY] for trial in known if trial.params} - varied
        names = [name for name in self.space.backbones if name not in dropped]
        strategies = [name for name in self.space.strategies if name not in fixed]
        if not strategies:
            return None
        groups = {BACKBONE: CategoricalDistribution(names), STRATEGY: CategoricalDistribution(strategies)}
        return {**self.distributions, **groups}


def _lies_in(trial: Trial, kinds: Mapping[str, BaseDistribution]) -> bool:
    return all(trial.params[key] in kinds[key].choices for key in (BACKBONE, STRATEGY))  # type: ignore[attr-defined]


def _as_complete(trial: Trial, kinds: Mapping[str, BaseDistribution]) -> optuna.trial.FrozenTrial:
    """Return a trial for TPE. Of trials with equal accuracy, the one with the lower loss is better."""
    accuracy, loss = trial.score
    own = {key: kinds[key] for key in trial.params}
    return create_trial(params=trial.params, distributions=own, value=round(accuracy + _TINY * max(loss, -100.0), 6))


def _first_strategy(space: Space) -> str:
    return PROBE if PROBE in space.strategies else space.strategies[0]
