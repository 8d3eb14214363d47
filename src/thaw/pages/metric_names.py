"""The metric that decides between runs: accuracy, or mean average precision if images can have several classes."""

from collections.abc import Mapping
from typing import Any

NAMES = {"acc": "accuracy", "map": "mAP"}


def metric_of(facts: Mapping[str, Any]) -> str:
    """Return `acc` or `map`: the key of the decisive metric of a run's summary, or of an entry of a comparison."""
    return facts.get("metric", "acc")


def score(entry: Mapping[str, Any]) -> float:
    return entry[metric_of(entry)]


def bounds(entry: Mapping[str, Any]) -> tuple[float, float]:
    """Return the 95 % interval of the decisive metric."""
    return entry[f"{metric_of(entry)}_ci95"]
