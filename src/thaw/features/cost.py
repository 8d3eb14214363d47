"""Estimate the time that stored features save, and choose how many augmented views of each image to store.

The estimate depends only on the run's configuration and the kind of machine, never on a clock or a cache's content, so
that the same command always gives the same results.
"""

from dataclasses import dataclass

from thaw.data.workers import usable_cores

# Rough values suffice, because the compared times differ by more than the errors of these values.
_OPERATIONS = {"cpu": 5e10, "cuda": 2e13}  # floating-point operations per second; per core on a CPU
_PREPARE = 2e-3  # seconds that a core needs to decode, crop and resize an image
_READ, _WRITE = 1e9, 5e8  # bytes per second

_FEWEST_VIEWS, _MOST_VIEWS = 2, 4


@dataclass(frozen=True)
class Cost:
    """Cost of one image's features: floating-point operations on a device of type `device`, and `size` in bytes."""

    operations: float
    size: int
    device: str

    def saved(self, uses: int, passes: int) -> float:
        """Return the seconds saved per image if features are stored `passes` times and then used `uses` times."""
        on_cpu, cores = self.device == "cpu", usable_cores()
        rate = _OPERATIONS["cpu"] * cores if on_cpu else _OPERATIONS["cuda"]
        compute = self.operations / rate + (_PREPARE if on_cpu else _PREPARE / cores)
        return (uses - passes) * compute - uses * self.size / _READ - passes * self.size / _WRITE


def enough_views(epochs: int) -> int:
    """Return how many augmented views suffice: a third of `epochs`, from 2 to 4, but at most `epochs`."""
    return min(epochs, max(_FEWEST_VIEWS, min(_MOST_VIEWS, epochs // 3)))
