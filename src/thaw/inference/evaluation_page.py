"""An evaluation as a table, as `evaluation.json`, `predictions.csv` and a page with pictures."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from PIL import Image

from thaw.data.workers import roomy_batch_size
from thaw.inference.evaluate import Evaluated
from thaw.inference.gradcam import gradcam, overlaid
from thaw.pages.html import data_url, render
from thaw.pages.limits import LINES, MATRIX, ROWS
from thaw.pages.plots import COLOURS, INK, percent, svg
from thaw.pages.text import aligned, amount, counted, shown
from thaw.runs.extras import warn_on_failure
from thaw.storage.files import whole_file

_NAMES = {
    "acc": "accuracy",
    "macro_acc": "macro accuracy",
    "macro_f1": "macro F1",
    "loss": "loss",
    "ece": "ECE",
    "ece_uncalibrated": "ECE, uncalibrated",
}
_PAIRS = 10  # of classes that are confused, in a terminal
_BOTH = COLOURS[1::-1]  # uncalibrated, calibrated
_COUNT = {"textcoords": "offset points", "ha": "center", "fontsize": 8}


def write_evaluation(folder: Path, done: Evaluated) -> None:
    """`predictions.csv`, `evaluation.json` and `evaluation.html`, in a folder that is there."""
    done.evaluation.write_csv(folder / "predictions.csv", done.folder.root)
    with whole_file(folder / "evaluation.json") as file:
        file.write(json.dumps(done.facts, indent=1) + "\n")
    with warn_on_failure(f"the page {folder / 'evaluation.html'}"):
        page = _page(done)
        with whole_file(folder / "evaluation.html") as file:
            file.write(page)


def table(facts: dict) -> str:
    """For a terminal: the numbers with their intervals, each class, the most frequent mistakes, and robustness."""
    classes = amount(len(facts["classes"]) - len(facts["missing"]), "class")
    lines = [f"{amount(facts['images'], 'image')} of {classes} in {facts['root']}"]
    if facts["missing"]:
        lines.append(f"not there: {counted(facts['missing'])}; macro averages are over the other classes")
    if facts["ignored"]:
        lines.append(f"files that are not read, for their ending or their place: {facts['ignored']}")
    numbers = [("", "value", "95 % interval")]
    numbers += [(name, f"{facts[key]['value']:.4f}", _interval(facts[key])) for key, name in _NAMES.items()]
    classes = [("class", "images", "recall", "95 % interval", "precision", "95 % interval", "F1")]
    for row in hardest(facts["per_class"], LINES):
        scores = (row["recall"], row["precision"])
        told = [cell for score in scores for cell in (_value(score), _interval(score))]
        classes.append((shown(row["class"]), str(row["n"]), *told, "" if row["f1"] is None else f"{row['f1']:.4f}"))
    blocks = [lines, aligned(numbers), aligned(classes)]
    if len(facts["per_class"]) > LINES:
        blocks.append([f"those are the {LINES} classes with the lowest F1; evaluation.json has all"])
    if facts["confused"]:
        pairs = [("true", "predicted", "images", "of the class")]
        pairs += [
            (shown(p["label"]), shown(p["predicted"]), str(p["count"]), f"{p['share']:.1%}")
            for p in facts["confused"][:_PAIRS]
        ]
        blocks.append(aligned(pairs))
    if facts["robustness"]:
        rows = [("corruption", "strength", "accuracy", "change", "95 % interval", "p", "ECE")]
        rows.append(("none", "", _value(facts["acc"]), "", "", "", f"{facts['ece']['value']:.4f}"))
        for row in facts["robustness"]:
            low, high = row["change"]["ci95"]
            change = f"{row['change']['value']:+.4f}", f"{low:+.4f} to {high:+.4f}", f"{row['p']:.3g}"
            rows.append((row["corruption"], row["told"], _value(row["acc"]), *change, f"{row['ece']:.4f}"))
        blocks.append(aligned(rows))
    return "\n\n".join("\n".join(block) for block in blocks)


def _value(score: dict | None) -> str:
    return "" if score is None else f"{score['value']:.4f}"


def _interval(score: dict | None) -> str:
    return "" if score is None else "{:.4f} to {:.4f}".format(*score["ci95"])


def hardest(rows: Sequence[dict], most: int) -> list[dict]:
    """Return the rows of the `most` classes with the lowest F1, in the order of `rows`; those without images last."""
    order = sorted(range(len(rows)), key=lambda place: 2.0 if rows[place]["f1"] is None else rows[place]["f1"])
    return [rows[place] for place in sorted(order[:most])]


def _page(done: Evaluated) -> str:
    facts = done.facts
    pictures = [{"seen": data_url(seen), "heat": data_url(heat)} for seen, heat in _looks(done)]
    return render(
        "evaluation.html.jinja",
        **facts,
        names=_NAMES,
        plots=[
            _reliability_plot(*named, colour) for named, colour in zip(facts["reliability"].items(), _BOTH, strict=True)
        ],
        losses=list(zip(facts["top_losses"], pictures, strict=True)),
        matrix=MATRIX,
        listed=hardest(facts["per_class"], ROWS),
    )


def _looks(done: Evaluated) -> list[tuple[Image.Image, Image.Image]]:
    """Each of the worst images as the net sees it, and where it looks for the class that it predicts."""
    found, size = [], roomy_batch_size(done.model.preprocessing.crop)
    for first in range(0, len(done.worst), size):
        own = list(done.worst[first : first + size])
        crops = torch.stack([done.model.read(done.evaluation.paths[index]) for index in own])
        heats = gradcam(done.model, crops, done.evaluation.predicted[own])
        for crop, heat in zip(crops, heats, strict=True):
            found.append((Image.fromarray(crop.permute(1, 2, 0).numpy()), overlaid(crop, heat)))
    return found


def _reliability_plot(name: str, rows: Sequence[dict], colour: str) -> str:
    """Share right against mean confidence, a dot for each bin; the diagonal is perfect calibration."""

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], ":", color=INK, linewidth=1)
        for row in rows:
            low, high = row["right"]["ci95"]
            axes.plot([row["confidence"]] * 2, [low, high], color=colour, linewidth=1.5, alpha=0.7)
            axes.plot(row["confidence"], row["right"]["value"], "o", color=colour, markersize=6)
            axes.annotate(str(row["n"]), (row["confidence"], high), (0, 5), **_COUNT)
        axes.set(xlabel="mean confidence", ylabel="share right", title=name, xlim=(-0.03, 1.05), ylim=(-0.03, 1.1))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(percent())
        axes.grid(alpha=0.3)

    return svg((4.8, 4.2), draw)
