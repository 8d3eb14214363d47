"""Whether features are worth their room, and of how many views.

The answer depends on the run's configuration and the machine's kind alone, never on a clock or on what a cache holds:
equal commands compute equal numbers.
"""

from dataclasses import dataclass

from thaw.data.workers import usable_cores

# Orders of magnitude suffice: what is decided by them differs by more than they are wrong.
_OPERATIONS = {"cpu": 5e10, "cuda": 2e13}  # a second; on a CPU per core
_PREPARE = 2e-3  # seconds in which a core decodes, crops and resizes an image
_READ, _WRITE = 1e9, 5e8  # bytes a second

_FEWEST_VIEWS, _MOST_VIEWS = 2, 4


@dataclass(frozen=True)
class Cost:
    """Of the features of one image: floating-point operations to compute them on `device`, and bytes to keep them."""

    operations: float
    size: int
    device: str

    def saved(self, uses: int, passes: int) -> float:
        """Seconds per image, if it is computed `passes` times instead of `uses` times."""
        on_cpu, cores = self.device == "cpu", usable_cores()
        rate = _OPERATIONS["cpu"] * cores if on_cpu else _OPERATIONS["cuda"]
        compute = self.operations / rate + (_PREPARE if on_cpu else _PREPARE / cores)
        return (uses - passes) * compute - uses * self.size / _READ - passes * self.size / _WRITE


def enough_views(epochs: int) -> int:
    """Of each training image for so many epochs: a third as many, within limits."""
    return min(epochs, max(_FEWEST_VIEWS, min(_MOST_VIEWS, epochs // 3)))
