"""Draw the plots of a comparison as SVG in the page's text colour."""

import io
import warnings
from collections.abc import Callable, Iterable, Sequence
from itertools import cycle, product
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox
from scipy.special import expit, logit

from thaw.pages.metric_names import NAMES, bounds, metric_of, score
from thaw.pages.text import cut, printable, width

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#999999")  # Okabe and Ito
INK = "#010203"  # placeholder for the page's text colour; nothing else has this colour
_STYLE: dict[Any, object] = {
    "svg.fonttype": "none",  # keep text as text, so that the font of the page applies
    "svg.hashsalt": "thaw",  # a constant, so that equal results give equal SVGs
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}
_WIDTH = 7.2  # inches; wide screens enlarge the plot
_WIDEST, _WIDEST_LABEL = 36, 28  # largest width of a candidate's name, in columns: at an axis; beside a point
_LABELLED = 12  # names fit into a plot of at most this many candidates
_ENDS = 1e-3, 1 - 1e-3  # clip accuracies to this range, because log-odds are infinite at 0 and 1
_STEPS = (0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0002, 0.0001)  # possible steps between ticks
_SHIFTS = (8, -8, 0, 19, -19, 30, -30)  # vertical offsets between a marker and its name, in points (1/72 inch)
_ROUND = (0.01, 0.02, 0.05, 0.95, 0.98, 0.99, 0.995)


def intervals(entries: Sequence[dict]) -> str:
    """Plot each candidate's accuracy with its 95 % interval, and a stroke for the accuracy of each seed."""

    def draw(axes: Axes) -> None:
        for place, (entry, colour) in enumerate(zip(entries, cycle(COLOURS))):
            axes.plot(_log_odds(bounds(entry)), [place, place], color=colour, linewidth=3, solid_capstyle="round")
            axes.plot(_log_odds([score(entry)]), place, "o", color=colour, markersize=9)
            below = [place + 0.28] * len(entry["seeds"])
            axes.plot(_log_odds(entry[f"{metric_of(entry)}_by_seed"]), below, "|", color=INK, markersize=6)
        axes.set_yticks(range(len(entries)), [_shown_name(entry) for entry in entries])
        axes.set_ylim(len(entries) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        label = f"{NAMES[metric_of(entries[0])]} (log-odds scale): mean, 95 % interval, and a stroke for each seed"
        axes.figure.supxlabel(label, fontsize=10)
        _set_percent_ticks(axes.xaxis)
        axes.grid(axis="x", alpha=0.3)

    return svg((_WIDTH, 1.0 + 0.36 * len(entries)), draw)


def accuracy_and_time(entries: Sequence[dict]) -> str:
    """Plot accuracy against the seconds per run."""
    return accuracy_and_cost(entries, "seconds", "seconds per run (median)")


def accuracy_and_cost(entries: Sequence[dict], cost: str, label: str, colours: Iterable[str] | None = None) -> str:
    """Plot accuracy against `cost`, a key of `entries`; a line joins the candidates of the Pareto front."""

    def draw(axes: Axes) -> None:
        front = sorted((entry[cost], score(entry)) for entry in entries if entry["pareto"])
        costs, accuracies = zip(*front, strict=True)
        axes.plot(costs, _log_odds(accuracies), drawstyle="steps-post", color=INK, linewidth=1, alpha=0.5, zorder=1)
        for entry, colour in zip(entries, colours or cycle(COLOURS), strict=False):
            filled = colour if entry["pareto"] else "none"
            (place,) = _log_odds([score(entry)])
            axes.plot(entry[cost], place, "o", color=colour, markerfacecolor=filled, markersize=7)
        axes.set(xscale="log", xlabel=label, ylabel=f"{NAMES[metric_of(entries[0])]} (log-odds scale)")
        axes.margins(y=0.15)
        _set_percent_ticks(axes.yaxis)
        _set_round_ticks(axes, [entry[cost] for entry in entries])
        axes.grid(alpha=0.3)
        if len(entries) <= _LABELLED:
            places = [(entry[cost], *_log_odds([score(entry)])) for entry in entries]
            _place_names(axes, places, [_shown_name(entry, _WIDEST_LABEL) for entry in entries])

    return svg((_WIDTH, 3.6), draw)


def curves(entries: Sequence[dict]) -> str:
    """Plot accuracy and losses by epoch: the mean over runs, and a band from the lowest to the highest run."""
    columns = 3 if max(width(_shown_name(entry)) for entry in entries) <= _WIDEST_LABEL else 2
    figure_height = 3.2 + 0.22 * -(-len(entries) // columns)

    def draw(accuracy: Axes, loss: Axes) -> None:
        for entry, colour in zip(entries, cycle(COLOURS)):
            _band(accuracy, entry["curves"][f"val/{metric_of(entry)}"], colour, label=_shown_name(entry))
            _band(loss, entry["curves"]["val/loss"], colour)
            _band(loss, entry["curves"]["train/loss"], colour, linestyle=":")
        accuracy.set(xlabel="epoch", title=f"validation {NAMES[metric_of(entries[0])]}")
        accuracy.yaxis.set_major_formatter(percent())
        loss.set(xlabel="epoch", title="loss: validation (lines), training (dots)")
        for axes in (accuracy, loss):
            first, last = axes.get_xlim()
            if last - first < 1:  # a single epoch
                axes.set_xlim(0.5, 1.5)
            axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))
            axes.grid(alpha=0.3)
        accuracy.figure.legend(loc="outside lower center", ncols=columns, frameon=False)

    return svg((_WIDTH, figure_height), draw, columns=2)


def _band(axes: Axes, curve: dict, colour: str, **options) -> None:
    epochs = range(1, len(curve["mean"]) + 1)
    marker = "o" if len(curve["mean"]) == 1 else None
    axes.plot(epochs, curve["mean"], color=colour, marker=marker, **options)
    axes.fill_between(epochs, curve["low"], curve["high"], color=colour, alpha=0.15, linewidth=0)


def _shown_name(entry: dict, most: int = _WIDEST) -> str:
    """Escape `$` in a candidate's name, because Matplotlib would read it as the beginning of a formula."""
    return cut(printable(entry["name"]), most).replace("$", r"\$")


def _place_names(axes: Axes, places: Sequence[tuple[float, float]], names: Sequence[str]) -> None:
    """Write each name beside its point, where it covers the fewest other names and points."""
    canvas = FigureCanvasAgg(axes.figure)  # pyright: ignore[reportArgumentType] - no axes here lie in a subfigure
    canvas.draw()  # computes the layout
    renderer, frame = canvas.get_renderer(), axes.get_window_extent()
    points = axes.transData.transform(places)
    taken = [Bbox.from_extents(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    for (x, _), place, name in zip(points, places, names, strict=True):
        sides = ("left", "right") if x < (frame.x0 + frame.x1) / 2 else ("right", "left")
        tried = []
        for shift, side in product(_SHIFTS, sides):
            offset = (7 if side == "left" else -7, shift)
            label = axes.annotate(
                name, place, offset, textcoords="offset points", ha=side, va="center", fontsize=9, in_layout=False
            )
            box = label.get_window_extent(renderer)
            covered = box.count_overlaps(taken) + (box.x0 < frame.x0) + (box.x1 > frame.x1)
            tried.append((covered, len(tried), label, box))
            if not covered:
                break
        (_, _, _, box), *others = sorted(tried)
        for _, _, label, _ in others:
            label.remove()
        taken.append(box)


def _log_odds(shares: Sequence[float]) -> np.ndarray:
    """Return log-odds: on this scale, 98 and 99 % lie as far apart as 66 and 80 %."""
    return logit(np.clip(shares, *_ENDS))


def _set_percent_ticks(axis: Axis) -> None:
    low, high = expit(axis.get_view_interval())
    for step in _STEPS:
        round_ones = np.arange(step, 1 - step / 2, step)
        if ((round_ones > low) & (round_ones < high)).sum() >= 3:
            break
    ticks = sorted({*np.round(round_ones, 5), *(_ROUND if high > 0.9 or low < 0.1 else ())})
    shown = [tick for tick in ticks if low <= tick <= high]
    apart = (logit(high) - logit(low)) / 14
    kept = shown[-1:]
    for tick in reversed(shown[:-1]):
        if logit(kept[-1]) - logit(tick) >= apart:
            kept.append(tick)
    axis.set_ticks(logit(kept), [f"{100 * tick:.5g} %" for tick in kept])


def _set_round_ticks(axes: Axes, times: Sequence[float]) -> None:
    # Leave room for names beside the outermost points.
    room = max((max(times) / min(times)) ** 0.15, 1.15)
    low, high = min(times) / room, max(times) * room
    axes.set_xlim(low, high)
    ticks = [digit * 10.0**power for power in range(-3, 7) for digit in (1, 2, 5) if low <= digit * 10.0**power <= high]
    if len(ticks) < 3:
        ticks = [tick for tick in MaxNLocator(5, steps=(1, 2, 5, 10)).tick_values(low, high) if low <= tick <= high]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def percent() -> FuncFormatter:
    """Return a tick formatter that shows shares as percentages."""
    return FuncFormatter(lambda value, _: f"{100 * value:.4g} %")


def svg(size: tuple[float, float], draw: Callable, columns: int = 1) -> str:
    """Call `draw` with `columns` Matplotlib axes side by side, and return the figure as SVG.

    `size` is the figure's (width, height) in inches. `INK` becomes the text colour of the page.
    """
    with rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # harmless: the browser draws the text with its own font
        figure = Figure(size, layout="constrained")
        axes = figure.subplots(1, columns, squeeze=False)[0]
        draw(*axes)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn = file.getvalue()
    return drawn[drawn.index("<svg") :].replace(INK, "currentColor")
