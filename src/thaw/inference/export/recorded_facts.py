"""What the folder of a run records about a checkpoint: results, images of each class, configuration, evaluations."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thaw.data.label_sets import SEPARATOR
from thaw.errors import RunError
from thaw.evaluation.predictions_table import read_predictions
from thaw.inference.run_checkpoint import run_folder
from thaw.inference.trained_model import TrainedModel
from thaw.pages.metric_names import metric_of
from thaw.runs import run_files
from thaw.runs.configuration import is_run, read_resolved
from thaw.runs.summary import read_summary
from thaw.storage.checkpoints import read_checkpoint

_TABLES = {"val": run_files.PREDICTIONS, "test": run_files.TEST_PREDICTIONS}


@dataclass(frozen=True)
class RecordedFacts:
    """Facts about a checkpoint. Whatever the run's folder does not record is missing or empty.

    `summary` describes the data and the training. `results` is the same summary if it measured this checkpoint, else
    empty, and `reason` says why. `images` has the number of images by split and class.
    """

    summary: Mapping[str, Any] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    images: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    evaluations: Sequence[Mapping[str, Any]] = ()

    @property
    def data_name(self) -> str | None:
        """Name of the folder of the images, without the folders above it."""
        return Path(self.summary.get("data_root") or "").name or None


def recorded_facts(model: TrainedModel) -> RecordedFacts:
    """Return what the folder of the checkpoint's run records about `model`."""
    run = run_folder(model.source)
    summary = _of_same_classes(run, model)
    if not summary:
        return RecordedFacts(reason="the folder of its run was not there when the model was exported")
    named = summary.get("checkpoint")
    measured = bool(named) and (run / named).resolve() == model.source.resolve()
    reason = f"its run measured other weights ({Path(named).name})" if named else "its run has not finished"
    return RecordedFacts(
        summary,
        summary if measured else {},
        "" if measured else reason,
        _images(run, summary, model.classes),
        read_resolved(run) if is_run(run) else {},
        _evaluations(run, model.source, summary.get("data_root")),
    )


def _of_same_classes(run: Path, model: TrainedModel) -> dict:
    """Return the run's summary, or an empty dict if a folder has none, or the summary of a run on other classes."""
    try:
        summary = read_summary(run)
    except ValueError:  # damaged JSON
        return {}
    return summary if list(summary.get("classes", model.classes)) == list(model.classes) else {}


def _images(run: Path, summary: Mapping, classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return the number of images by split and class: those in the last checkpoint, else those of the predictions."""
    data = None
    if (run / run_files.LAST).is_file():
        with suppress(RunError):
            data = read_checkpoint(run / run_files.LAST).get("data")
    if data and {name: one["contents"] for name, one in data["splits"].items()} == summary.get("fingerprint"):
        return {name: one["counts"] for name, one in data["splits"].items()}
    several = metric_of(summary) == "map"
    tables = {split: read_predictions(run / file) for split, file in _TABLES.items()}
    counted = {
        split: Counter(name for _, label, *_ in table for name in (label.split(SEPARATOR) if several else [label]))
        for split, table in tables.items()
    }
    return {split: {name: found[name] for name in classes} for split, found in counted.items() if found}


def _evaluations(run: Path, checkpoint: Path, data_root: str | None) -> list[dict]:
    """Return the evaluations of the checkpoint in the run's folder, with two more entries.

    `name` is the name of the evaluation's folder. `used` says that the images are in the run's own data, outside its
    test images, so that the run has used some of them.
    """
    found = []
    for path in sorted((run / run_files.EVALUATION).glob("*/evaluation.json")):
        with suppress(ValueError, OSError):
            facts = json.loads(path.read_text(encoding="utf-8"))
            if Path(facts.get("checkpoint", "")).name == checkpoint.name:
                root = Path(facts.get("root", ""))
                used = bool(data_root) and root.is_relative_to(data_root or "") and not root.name.startswith("test")
                found.append({**facts, "name": path.parent.name, "used": used})
    return found
