"""Draw the figures of a run: sample images, predictions and the confusion matrix."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from PIL import Image
from torch.utils.data import Dataset

from thaw.data.folders import ClassFolders
from thaw.data.order import SeededOrder
from thaw.evaluation.average_precision import average_precision
from thaw.evaluation.confusion import confused_pairs
from thaw.evaluation.judgement import AnyPredictions
from thaw.evaluation.label_predictions import LabelPredictions
from thaw.evaluation.predictions import Predictions
from thaw.pages.charts import RIGHT, WRONG
from thaw.pages.fonts import drawable, families
from thaw.pages.limits import CONFUSIONS, MATRIX, ROWS
from thaw.pages.text import amount, width

SHOWN = 24
NO_CLASS = "none"  # above an image without a class
_DPI = 100
# Largest width of a class name, in columns: above an image, at an axis, and at an axis without rotation.
_LONGEST_CAPTION, _LONGEST_LABEL, _LONGEST_LEVEL = 18, 28, 9


def first_samples(images: ClassFolders, seed: int) -> list[tuple[torch.Tensor, int]]:
    """Return the first training images of the first epoch, augmented as the network sees them, with their labels."""
    return [images.augmented(key) for key, _ in zip(SeededOrder(len(images), seed), range(SHOWN), strict=False)]


def samples(shown: Sequence[tuple[torch.Tensor, int]], name: Callable[[int], str]) -> Figure:
    """Plot the images that `first_samples` returned; `name` returns the name of a label."""
    titles = [(drawable(name(label) or NO_CLASS, _LONGEST_CAPTION), "black") for _, label in shown]
    return _grid([image for image, _ in shown], titles, "Training images as the network sees them")


def predictions(images: Dataset, given: AnyPredictions) -> Figure:
    """Plot validation images: at most half are the most confident mistakes, the others are random correct predictions.

    Confidences are calibrated, as in `predict`: logits are divided by the temperature.
    """
    mistakes, right = np.flatnonzero(~given.right), np.flatnonzero(given.right)
    worst = mistakes[np.argsort(-given.confidence[mistakes], kind="stable")][: SHOWN // 2]
    chosen = np.random.default_rng(0).permutation(right)[: SHOWN - len(worst)]
    places = [*worst.tolist(), *chosen.tolist()]
    counts = f"{len(worst)} of {amount(len(mistakes), 'mistake')} (red), {len(chosen)} of {len(right):,} right (green)"
    title = f"Validation images, with calibrated confidences: {counts}"
    return _grid([images[index][0] for index in places], [_caption(given, index) for index in places], title)


def confusion_matrix(given: Predictions) -> Figure:
    """Plot the confusion matrix, or the most confused pairs if there are more than `MATRIX` classes."""
    return _matrix(given) if len(given.classes) <= MATRIX else _most_confused(given)


def _matrix(given: Predictions) -> Figure:
    counts, fonts = given.confusion.toarray(), families(given.classes)
    classes = [drawable(name, _LONGEST_LABEL) for name in given.classes]
    shares = counts / counts.sum(1, keepdims=True).clip(1)
    size = max(3.6, 0.45 * len(classes) + 2)
    longest = max(map(width, classes))
    room = 0.09 * max(longest - _LONGEST_LEVEL, 0)  # additional inches for long labels
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)  # the default padding lets the last label touch the edge
    figure = Figure((size + 0.8 + room, size + 0.7 * room), layout=layout)
    axes = figure.subplots()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    turned = len(classes) > 3 or longest > _LONGEST_LEVEL
    axes.set(xlabel="predicted", ylabel="true")
    place = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if turned else {}
    axes.set_xticks(range(len(classes)), classes, fontfamily=fonts, **place)
    axes.set_yticks(range(len(classes)), classes, fontfamily=fonts)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, count, ha="center", va="center", color=colour)
    figure.colorbar(picture, label="share of the true class", fraction=0.046)
    figure.suptitle(_right_count(given), fontsize=11)
    return figure


def _most_confused(given: Predictions) -> Figure:
    pairs = confused_pairs(given.confusion, given.classes, CONFUSIONS)
    names = [f"{drawable(pair['label'], 30)} → {drawable(pair['predicted'], 30)}" for pair in pairs]
    fonts = families(name for pair in pairs for name in (pair["label"], pair["predicted"]))
    figure = Figure((8.6, 1.6 + 0.27 * max(len(pairs), 1)), layout="constrained")
    axes = figure.subplots()
    places = range(len(pairs))
    axes.barh(places, [pair["count"] for pair in pairs], color="#6baed6")
    for place, pair in zip(places, pairs, strict=True):
        axes.annotate(f"{pair['share']:.0%}", (pair["count"], place), (3, 0), textcoords="offset points", va="center")
    axes.set_yticks(places, names, fontfamily=fonts)
    axes.set(ylim=(len(pairs) - 0.4, -0.6), xlabel="images (percentage: share of the true class's images)")
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))
    axes.margins(x=0.1)
    title = f"The {len(pairs)} most frequent confusions of" if pairs else "No mistakes among"
    axes.set_visible(bool(pairs))
    classes = f"{len(given.classes):,} classes (true → predicted)"
    figure.suptitle(f"{_right_count(given)}\n{title} {classes}", fontsize=11)
    return figure


def average_precisions(given: LabelPredictions) -> Figure:
    """Plot the average precision of each class; of more than `ROWS` classes, those with the lowest."""
    values = average_precision(given.labels, given.logits)
    order = [int(place) for place in np.argsort(values) if np.isfinite(values[place])][:ROWS]
    names = [drawable(given.classes[place], 30) for place in order]
    figure = Figure((7.6, 1.4 + 0.27 * len(order)), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(order)), values[order], color="#6baed6")
    for place, index in enumerate(order):
        text = f"{values[index]:.3f} ({amount(int(given.labels[:, index].sum()), 'image')})"
        axes.annotate(text, (values[index], place), (3, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(order)), names, fontfamily=families(names))
    axes.set(ylim=(len(order) - 0.4, -0.6), xlim=(0, 1.4), xlabel="average precision")
    axes.set_xticks(np.linspace(0, 1, 6))
    lowest = f"; the {len(order)} lowest of {len(values):,} classes" if len(order) < len(values) else ""
    figure.suptitle(f"mAP {np.nanmean(values):.4f} on {amount(len(given.labels), 'image')}{lowest}", fontsize=11)
    return figure


def _right_count(given: Predictions) -> str:
    return f"{given.right.sum():,} of {len(given.labels):,} right"


def _caption(given: AnyPredictions, index: int) -> tuple[str, str]:
    both = given.predicted[index], given.labels[index]
    if isinstance(given, LabelPredictions):
        names = (given.names(one) or NO_CLASS for one in both)
    else:
        names = (given.classes[int(one)] for one in both)
    predicted, label = (drawable(name, _LONGEST_CAPTION - len(" 100%")) for name in names)
    confidence = f"{predicted} {given.confidence[index]:.0%}"
    return (confidence, RIGHT) if given.right[index] else (f"{confidence}\n(is {label})", WRONG)


def _resized(image: torch.Tensor, size: int) -> np.ndarray:
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC))


def _grid(images: Sequence[torch.Tensor], captions: Sequence[tuple[str, str]], title: str, columns: int = 8) -> Figure:
    """Plot all images in one array, because one `Axes` per image would take ten times as long."""
    size, rows = round(1.45 * _DPI / 1.06), -(-len(images) // columns)
    gap, above = round(0.06 * size), round(0.34 * size)
    picture = np.full((rows * (size + above), columns * (size + gap), 3), 255, np.uint8)
    height = 1.45 * picture.shape[0] / (size + gap)
    figure = Figure((1.45 * columns, height + 0.4), dpi=_DPI)
    axes = figure.add_axes((0.004, 0.05 / (height + 0.4), 0.992, height / (height + 0.4)))
    axes.set_axis_off()
    style = {"fontsize": 9, "va": "bottom", "fontfamily": families(text for text, _ in captions)}
    for number, (image, (text, colour)) in enumerate(zip(images, captions, strict=True)):
        top, left = number // columns * (size + above) + above, number % columns * (size + gap) + gap // 2
        picture[top : top + size, left : left + size] = _resized(image, size)
        axes.text(left + size / 2, top - 0.04 * size, text, color=colour, ha="center", **style)
    axes.imshow(picture)
    figure.suptitle(title, fontsize=11, y=1 - 0.06 / height)
    return figure
