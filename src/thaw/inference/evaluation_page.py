"""Write an evaluation as a terminal table, `evaluation.json`, `predictions.csv` and an HTML page with pictures."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from PIL import Image

from thaw.data.thumbnails import thumbnail_url
from thaw.data.workers import inference_batch_size
from thaw.evaluation.judgement import AnyPredictions
from thaw.evaluation.predictions_table import write_predictions
from thaw.inference.evaluate import Evaluated
from thaw.inference.gradcam import gradcam, overlaid
from thaw.inference.label_evaluation import LabelEvaluated
from thaw.inference.trained_model import TrainedModel
from thaw.pages.html import data_url, render
from thaw.pages.limits import LINES, MATRIX, ROWS
from thaw.pages.plots import COLOURS, INK, percent, svg
from thaw.pages.text import aligned, amount, counted, p_value, shown
from thaw.runs.optional_output import write_page
from thaw.storage.files import write_whole

_NAMES = {
    "acc": "accuracy",
    "macro_acc": "macro accuracy",
    "macro_f1": "macro F1",
    "loss": "loss",
    "ece": "ECE",
    "ece_uncalibrated": "ECE, uncalibrated",
}
_PAIRS = 10  # largest number of rows in the terminal table of confused classes
_CURVE_COLOURS = COLOURS[1::-1]  # colours of the uncalibrated and of the calibrated curve
_COUNT_STYLE = {"textcoords": "offset points", "ha": "center", "fontsize": 8}


def write_evaluation(folder: Path, done: Evaluated) -> None:
    """Write `predictions.csv`, `evaluation.json` and `evaluation.html` into an existing folder."""
    write_predictions(folder / "predictions.csv", done.predictions, done.folder.root)
    write_whole(folder / "evaluation.json", json.dumps(done.facts, indent=1) + "\n")
    write_page(folder / "evaluation.html", lambda: _page(done))


def table(facts: dict) -> str:
    """Return tables for a terminal: metrics with intervals, classes, the most frequent mistakes and robustness."""
    blocks = [summary_lines(facts), _metrics(facts), _classes(facts)]
    if len(facts["per_class"]) > LINES:
        blocks.append([f"these are the {LINES} classes with the lowest F1; evaluation.json has all"])
    if facts["confused"]:
        blocks.append(_mistakes(facts))
    if facts["robustness"]:
        blocks.append(_robustness(facts))
    if facts["sets"] or facts["distance"]:
        blocks.append(_limits(facts))
    return "\n\n".join("\n".join(block) for block in blocks)


def summary_lines(facts: dict) -> list[str]:
    """Return lines that say which images were evaluated."""
    classes = amount(len(facts["classes"]) - len(facts["missing"]), "class")
    lines = [f"{amount(facts['images'], 'image')} of {classes} in {facts['root']}"]
    if facts["missing"]:
        lines.append(f"no images of: {counted(facts['missing'])}; macro averages are over the other classes")
    if facts.get("ignored"):
        lines.append(f"skipped files (no image file extension or no class folder): {facts['ignored']}")
    return lines


def _metrics(facts: dict) -> list[str]:
    rows = [("", "value", "95 % interval")]
    rows += [(name, f"{facts[key]['value']:.4f}", interval_of(facts[key])) for key, name in _NAMES.items()]
    return aligned(rows)


def _classes(facts: dict) -> list[str]:
    rows: list[tuple[str, ...]] = [("class", "images", "recall", "95 % interval", "precision", "95 % interval", "F1")]
    for row in hardest(facts["per_class"], LINES):
        scores = (row["recall"], row["precision"])
        cells = [cell for score in scores for cell in (value_of(score), interval_of(score))]
        f1 = "" if row["f1"] is None else f"{row['f1']:.4f}"
        rows.append((shown(row["class"]), str(row["n"]), *cells, f1))
    return aligned(rows)


def _mistakes(facts: dict) -> list[str]:
    rows = [("true", "predicted", "images", "share of the class")]
    rows += [
        (shown(pair["label"]), shown(pair["predicted"]), str(pair["count"]), f"{pair['share']:.1%}")
        for pair in facts["confused"][:_PAIRS]
    ]
    return aligned(rows)


def _robustness(facts: dict) -> list[str]:
    rows = [("corruption", "strength", "accuracy", "change", "95 % interval", "p", "ECE")]
    rows.append(("none", "", value_of(facts["acc"]), "", "", "", f"{facts['ece']['value']:.4f}"))
    for row in facts["robustness"]:
        low, high = row["change"]["ci95"]
        change = f"{row['change']['value']:+.4f}", f"{low:+.4f} to {high:+.4f}", p_value(row["p"]).removeprefix("= ")
        rows.append((row["corruption"], row["description"], value_of(row["acc"]), *change, f"{row['ece']:.4f}"))
    return aligned(rows)


def _limits(facts: dict) -> list[str]:
    rows = [("", "value", "95 % interval")]
    if sets := facts["sets"]:
        label = f"sets with the true class (asked: {sets['coverage']:g})"
        rows += [(label, value_of(sets["covered"]), interval_of(sets["covered"]))]
        rows += [("mean number of classes in a set", f"{sets['mean_size']:.2f}", "")]
    if distance := facts["distance"]:
        rows += [("images called none of these", value_of(distance["unknown"]), interval_of(distance["unknown"]))]
        if foreign := distance["foreign"]:
            label = f"{amount(foreign['images'], 'foreign image')} called none of these"
            rows += [(label, value_of(foreign["unknown"]), interval_of(foreign["unknown"]))]
            rows += [("AUROC of the distance", value_of(foreign["auroc"]), interval_of(foreign["auroc"]))]
    return aligned(rows)


def value_of(score: dict | None) -> str:
    """Return a cell with the value of a metric, empty if there is none."""
    return "" if score is None else f"{score['value']:.4f}"


def interval_of(score: dict | None) -> str:
    """Return a cell with the 95 % interval of a metric."""
    return "" if score is None else "{:.4f} to {:.4f}".format(*score["ci95"])


def hardest(rows: Sequence[dict], most: int) -> list[dict]:
    """Return the rows of the `most` classes with the lowest F1, in the old order; classes without images rank last."""

    def f1(place: int) -> float:
        score = rows[place]["f1"]
        return 2.0 if score is None else score["value"] if isinstance(score, dict) else score

    order = sorted(range(len(rows)), key=f1)
    return [rows[place] for place in sorted(order[:most])]


def _page(done: Evaluated) -> str:
    facts = done.facts
    return render(
        "evaluation.html.jinja",
        **facts,
        names=_NAMES,
        **calibration_and_losses(done, "accuracy"),
        distance_plot=None if done.distances is None else _distance_plot(done),
        foreign_pictures=[thumbnail_url(Path(one["path"])) for one in _nearest(facts)],
        farthest_pictures=[
            thumbnail_url(done.folder.root / one["path"]) for one in (facts["distance"] or {}).get("farthest", ())
        ],
        matrix=MATRIX,
        rows=ROWS,
        listed=hardest(facts["per_class"], ROWS),
    )


def calibration_and_losses(done: Evaluated | LabelEvaluated, outcome: str) -> dict:
    """Return what both kinds of pages show: the plots of calibration, and the images with the highest loss.

    `outcome` is the label of the plots' vertical axis.
    """
    found = _pictures(done.model, done.predictions, done.worst)
    pictures = [{"crop": data_url(crop), "heatmap": data_url(heatmap)} for crop, heatmap in found]
    curves = zip(done.facts["reliability"].items(), _CURVE_COLOURS, strict=True)
    return {
        "plots": [_reliability_plot(name, rows, colour, outcome) for (name, rows), colour in curves],
        "losses": list(zip(done.facts["top_losses"], pictures, strict=True)),
    }


def _nearest(facts: dict) -> Sequence[dict]:
    """Return the rows of the nearest foreign images, or [] if there are none."""
    foreign = (facts["distance"] or {}).get("foreign")
    return foreign["nearest"] if foreign else ()


def _distance_plot(done: Evaluated) -> str:
    assert done.distances is not None
    groups = {"images of the classes": done.distances}
    if done.foreign:
        groups["foreign images"] = done.foreign.distances
    values = np.concatenate(list(groups.values()))
    edges = np.linspace(values.min(), np.percentile(values, 99), 41)

    def draw(axes: Axes) -> None:
        for (name, distances), colour in zip(groups.items(), COLOURS, strict=False):
            weights = np.full(len(distances), 1 / len(distances))
            axes.hist(distances.clip(*edges[[0, -1]]), edges, weights=weights, color=colour, alpha=0.6, label=name)
        axes.axvline(1, linestyle=":", color=INK, linewidth=1)
        axes.set(xlabel="distance from validation images", ylabel="share of images")
        axes.yaxis.set_major_formatter(percent())
        axes.legend(frameon=False)

    return svg((7.2, 3.2), draw)


def _pictures(
    model: TrainedModel, predictions: AnyPredictions, worst: Sequence[int]
) -> list[tuple[Image.Image, Image.Image]]:
    """Return (crop, crop under a Grad-CAM heatmap of its predicted class) for each high-loss image."""
    found, size = [], inference_batch_size(model.preprocessing.crop)
    for first in range(0, len(worst), size):
        batch = list(worst[first : first + size])
        crops = torch.stack([model.read(predictions.paths[index]) for index in batch])
        heats = gradcam(model, crops, torch.from_numpy(predictions.logits[batch].argmax(1)))
        for crop, heat in zip(crops, heats, strict=True):
            found.append((Image.fromarray(crop.permute(1, 2, 0).numpy()), overlaid(crop, heat)))
    return found


def _reliability_plot(name: str, rows: Sequence[dict], colour: str, outcome: str) -> str:
    """Plot the rows of `measures.reliability` as SVG; `outcome` is the label of the vertical axis."""

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], ":", color=INK, linewidth=1)
        for row in rows:
            low, high = row["right"]["ci95"]
            axes.plot([row["confidence"]] * 2, [low, high], color=colour, linewidth=1.5, alpha=0.7)
            axes.plot(row["confidence"], row["right"]["value"], "o", color=colour, markersize=6)
            axes.annotate(str(row["n"]), (row["confidence"], high), (0, 5), **_COUNT_STYLE)
        axes.set(xlabel="mean confidence", ylabel=outcome, title=name, xlim=(-0.03, 1.05), ylim=(-0.03, 1.1))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(percent())
        axes.grid(alpha=0.3)

    return svg((4.8, 4.2), draw)
