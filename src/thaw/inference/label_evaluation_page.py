"""Write the evaluation of a model whose images can have several classes, like `evaluation_page` for one class."""

import json
from pathlib import Path

from thaw.evaluation.predictions_table import write_predictions
from thaw.inference.evaluation_page import (
    calibration_and_losses,
    hardest,
    interval_of,
    summary_lines,
    value_of,
)
from thaw.inference.label_evaluation import LabelEvaluated
from thaw.pages.html import render
from thaw.pages.limits import LINES, ROWS
from thaw.pages.text import aligned, shown
from thaw.runs.optional_output import write_page
from thaw.storage.files import write_whole

_NAMES = {
    "map": "mAP",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "acc": "classes decided correctly",
    "exact": "images without a mistake",
    "loss": "loss",
    "ece": "ECE",
    "ece_uncalibrated": "ECE, uncalibrated",
}


def write_label_evaluation(folder: Path, done: LabelEvaluated) -> None:
    """Write `predictions.csv`, `evaluation.json` and `evaluation.html` into an existing folder."""
    write_predictions(folder / "predictions.csv", done.predictions, done.folder.root)
    write_whole(folder / "evaluation.json", json.dumps(done.facts, indent=1) + "\n")
    write_page(folder / "evaluation.html", lambda: _page(done))


def label_table(facts: dict) -> str:
    """Return tables of metrics and classes for a terminal, for images that can have several classes."""
    rows = [("", "value", "95 % interval")]
    for key, name in _NAMES.items():
        one = facts[key] if isinstance(facts[key], dict) else {"value": facts[key]}
        rows.append((name, f"{one['value']:.4f}", interval_of(one) if "ci95" in one else ""))
    classes: list[tuple[str, ...]] = [
        ("class", "images", "average precision", "95 % interval", "F1", "95 % interval", "threshold")
    ]
    for row in hardest(facts["per_class"], LINES):
        cells = [cell for score in (row["ap"], row["f1"]) for cell in (value_of(score), interval_of(score))]
        classes.append((shown(row["class"]), str(row["n"]), *cells, f"{row['threshold']:.3f}"))
    return "\n\n".join("\n".join(block) for block in (summary_lines(facts), aligned(rows), aligned(classes)))


def _page(done: LabelEvaluated) -> str:
    facts = done.facts
    return render(
        "label_evaluation.html.jinja",
        **facts,
        metrics=[(name, facts[key]) for key, name in _NAMES.items()],
        **calibration_and_losses(done, "share of images"),
        listed=hardest(facts["per_class"], ROWS),
    )
