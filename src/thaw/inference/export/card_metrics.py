"""The metrics of a model card: a table for readers, and the `model-index` that the Hugging Face Hub reads."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from thaw.inference.export.recorded_facts import RecordedFacts
from thaw.pages.text import amount

# Metrics of a summary or an evaluation that a card shows -> their name, and their type on the Hub, if it has one.
METRICS = {
    "map": ("mean average precision (mAP)", "mean_average_precision"),
    "acc": ("accuracy", "accuracy"),
    "decided": ("share of the classes that are decided correctly", None),
    "exact": ("share of the images with all classes right", None),
    "macro_acc": ("accuracy, mean of the classes", None),
    "macro_f1": ("F1, mean of the classes", "f1"),
    "micro_f1": ("F1, all decisions together", None),
    "loss": ("cross-entropy", None),
    "ece": ("calibration error (ECE)", None),
}
_SPLITS = {"val": "validation", "test": "test"}


@dataclass(frozen=True)
class Measured:
    """The metrics of one set of images. `split` is its name on the Hub, if any; `entries` are as in `summary.json`."""

    name: str
    data: str
    split: str | None
    images: int | None
    entries: Mapping[str, Any]

    @property
    def title(self) -> str:
        return f"{self.name}, {amount(self.images, 'image')}" if self.images else self.name

    def values(self) -> Iterator[tuple[str, float, list[float] | None]]:
        """Yield the key, value and 95 % interval of each metric in `METRICS`; an interval can be None.

        If images can have several classes, the entry `acc` is the metric `decided`.
        """
        source = {key: key for key in METRICS} | ({"acc": "", "decided": "acc"} if "map" in self.entries else {})
        for key in METRICS:
            entry = self.entries.get(source[key])
            if isinstance(entry, Mapping):  # in an evaluation
                yield key, entry["value"], entry["ci95"]
            elif entry is not None:
                yield key, entry, self.entries.get(f"{source[key]}_ci95")


def measured(facts: RecordedFacts) -> list[Measured]:
    """Return the metrics of the validation images, the test images and each evaluation, as far as there are any."""
    data = facts.data_name or "images"
    found = [
        Measured(name, data, name, facts.results[split].get("n"), facts.results[split])
        for split, name in _SPLITS.items()
        if split in facts.results
    ]
    for one in facts.evaluations:
        name = f"evaluation on {one['name']}{', images of the run' if one['used'] else ''}"
        found.append(Measured(name, one["name"], None, one.get("images"), one))
    return found


def metric_rows(sets: list[Measured]) -> list[tuple[str, str, str, str]]:
    """Return the cells of the card's table: images, metric, value, 95 % interval."""
    return [
        (one.title, METRICS[key][0], f"{value:.4f}", f"{interval[0]:.4f} to {interval[1]:.4f}" if interval else "–")
        for one in sets
        for key, value, interval in one.values()
    ]


def model_index(name: str, sets: list[Measured]) -> list[dict[str, Any]]:
    """Return the value of `model-index` in the card's front matter."""
    results = []
    for one in sets:
        metrics = [
            {"type": METRICS[key][1], "value": value, "name": METRICS[key][0]}
            for key, value, _ in one.values()
            if METRICS[key][1]
        ]
        task = {"type": "image-classification", "name": "Image Classification"}
        split = {"split": one.split} if one.split else {}
        results.append(
            {"task": task, "dataset": {"name": one.data, "type": "imagefolder", **split}, "metrics": metrics}
        )
    return [{"name": name, "results": results}] if results else []
