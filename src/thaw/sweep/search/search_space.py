"""Space of a search: the options that it varies, read from Hydra's sweep syntax."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from thaw.errors import UserError

BACKBONE, STRATEGY = "backbone", "strategy"
INSTANCES = ("seed", "data.fold")  # a trial is repeated for their values; a search must not choose among them
WHOLE = ("trainer.max_epochs", "data.batch_size", "data.image_size", "data.train_size", "scheduler.step_size")
_DIGITS = 3  # significant digits of a drawn number


@dataclass(frozen=True)
class Dimension:
    """An option that a search varies; `key` is the left side of its override, such as `lr_factor`."""

    key: str
    distribution: BaseDistribution

    def override(self, value: object) -> str:
        return f"{self.key}={format(value, f'.{_DIGITS}g') if isinstance(value, float) else value}"

    def rounded(self, value: Any) -> Any:
        """Return a number as its override has it, so that equal runs have equal parameters."""
        short = float(format(value, f".{_DIGITS}g")) if isinstance(value, float) else value
        return short if self.distribution._contains(self.distribution.to_internal_repr(short)) else value

    @property
    def ends(self) -> tuple[Any, ...]:
        """Return all choices, or the lowest and the highest number."""
        kind = self.distribution
        if isinstance(kind, CategoricalDistribution):
            return kind.choices
        assert isinstance(kind, FloatDistribution | IntDistribution)
        return kind.low, kind.high

    @property
    def shown(self) -> str:
        """Return the values in words."""
        if isinstance(self.distribution, CategoricalDistribution):
            return ", ".join(map(str, self.ends))
        low, high = self.ends
        return f"{low:g} to {high:g}" + (" (log)" if getattr(self.distribution, "log", False) else "")

    def value_of(self, configured: object) -> object | None:
        """Return the configured value as a value of this dimension, or None if the dimension does not contain it."""
        kind = self.distribution
        if isinstance(kind, CategoricalDistribution):
            return next((choice for choice in kind.choices if str(choice) == _written(configured)), None)
        if not isinstance(configured, int | float) or isinstance(configured, bool):
            return None
        return configured if kind._contains(configured) else None


@dataclass(frozen=True)
class Space:
    """All options of a search.

    Attributes:
        backbones: the overrides that choose each backbone, by its name.
        strategies: the names of the strategies.
        dimensions: the other options.
        instances: the overrides of each repetition of a trial; one empty list if trials are not repeated.

    """

    backbones: Mapping[str, list[str]]
    strategies: Sequence[str]
    dimensions: Sequence[Dimension]
    instances: Sequence[list[str]]

    @property
    def all_dimensions(self) -> list[Dimension]:
        groups = ((BACKBONE, list(self.backbones)), (STRATEGY, self.strategies))
        return [*(Dimension(key, CategoricalDistribution(names)) for key, names in groups), *self.dimensions]

    def overrides(self, params: Mapping[str, object]) -> list[str]:
        """Return the overrides for the values of a backbone, a strategy and some of the other dimensions."""
        chosen = [*self.backbones[str(params[BACKBONE])], f"{STRATEGY}={params[STRATEGY]}"]
        return chosen + [one.override(params[one.key]) for one in self.dimensions if one.key in params]

    def listed(self) -> list[str]:
        """Return the space as texts. A search can be continued only with the same texts."""
        instances = [" ".join(instance) for instance in self.instances if instance]
        return [
            *(f"backbone {' '.join(overrides) or name}" for name, overrides in self.backbones.items()),
            f"strategy={','.join(self.strategies)}",
            *(f"{one.key} in {one.shown}" for one in self.dimensions),
            *([f"runs with {', '.join(instances)}"] if instances else []),
        ]


def _written(value: object) -> str:
    """Return a value as people write it in an override."""
    text = str(value).replace(" ", "")
    return {"True": "true", "False": "false", "None": "null"}.get(text, text)


def parsed(texts: Iterable[str]) -> list[Override]:
    """Parse overrides in Hydra's syntax."""
    return OverridesParser.create().parse_overrides(list(texts))


def dimension(override: Override) -> Dimension:
    """Return the dimension that an override with several values describes.

    Commas and `choice(…)` list values; `range(…)` and `interval(…)` give numbers. `tag(log, interval(a,b))` draws from
    a logarithmic scale, and `int(interval(a,b))` draws whole numbers.

    Raises:
        UserError: if it is another kind of sweep, or an interval without numbers.

    """
    key, value = override.get_key_element(), override.value()
    if isinstance(value, ChoiceSweep):
        return Dimension(key, CategoricalDistribution([_written(one) for one in override.sweep_string_iterator()]))
    if isinstance(value, RangeSweep):
        return Dimension(key, CategoricalDistribution(list(value.range())))
    if isinstance(value, IntervalSweep):
        low, high, log = value.start, value.end, "log" in value.tags
        assert low is not None and high is not None, "Hydra's grammar asks for both ends"
        if low >= high:
            raise UserError(f"{override.input_line} is empty: its first number, {low:g}, must be below {high:g}.")
        if log and low <= 0:
            raise UserError(f"{override.input_line}: on a logarithmic scale, the interval must begin above 0.")
        if isinstance(low, int) and isinstance(high, int):
            return Dimension(key, IntDistribution(low, high, log=log))
        return Dimension(key, FloatDistribution(low, high, log=log))
    raise UserError(
        f"{override.input_line} cannot be searched: list its values, as in {key}=A,B, or give an interval, as in "
        f"'{key}=interval(0,1)'."
    )
