"""Draw line charts, and save figures as PNG."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from PIL import Image

RIGHT, WRONG = "#1a7f37", "#cf222e"


def rate_curve(rates: Sequence[float], losses: Sequence[float], proposed: float | None, own: float) -> Figure:
    """Plot the smoothed loss against the learning rate; mark the proposed rate and `own`, the run's own rate."""
    figure = Figure((6.4, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses, color="black")
    for rate, colour, name in ((proposed, RIGHT, "steepest descent"), (own, WRONG, "this run")):
        if rate:
            axes.axvline(rate, color=colour, linestyle="--", label=f"{name}: {rate:.2g}")
    lowest, first = min(losses), losses[0]
    axes.set(xlabel="learning rate", ylabel="training loss, smoothed")
    _use_log_scale(axes)
    margin = 0.1 * first  # without limits, a diverging loss would flatten the rest of the curve
    axes.set_ylim(lowest - margin, first + 1.5 * (first - lowest) + margin)
    axes.legend()
    return figure


def penalty_path(solution: dict) -> Figure:
    """Plot loss and accuracy on held-out training images against a solver's L2 penalty; mark the chosen penalty."""
    path = solution["path"]
    penalties = [point["penalty"] for point in path]
    figure = Figure((6.4, 4), layout="constrained")
    axes = figure.subplots()
    right = axes.twinx()
    axes.plot(penalties, [point["loss"] for point in path], "o-", color="black", label="loss")
    right.plot(penalties, [point["acc"] for point in path], "s--", color="#0969da", label="accuracy")
    chosen = axes.axvline(solution["penalty"], color=RIGHT, linestyle=":", label=f"chosen: {solution['penalty']:.2g}")
    note = textwrap.fill(solution.get("note") or "", 70)
    axes.set(ylabel="loss of held-out training images")
    _use_log_scale(axes)
    axes.set_xlabel(f"L2 penalty\n{note}" if note else "L2 penalty")
    right.set_ylabel("accuracy of held-out training images", color="#0969da")
    figure.legend(handles=[*axes.lines[:1], *right.lines, chosen], loc="outside upper center", ncols=3)
    return figure


def _use_log_scale(axes: Axes) -> None:
    """Use a logarithmic x axis with plain numbers, because Matplotlib's powers of 10 need fonts that can be missing."""
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def save(figure: Figure, path: Path) -> np.ndarray:
    """Write a PNG and return its pixels, uint8 (height, width, 3)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=1)
    return pixels
