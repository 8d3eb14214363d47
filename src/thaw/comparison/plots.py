"""A comparison's plots, as SVG that takes its ink from the page it stands on."""

import io
import warnings
from collections.abc import Callable, Sequence
from itertools import cycle

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from scipy.special import expit, logit

from thaw.text import cut, printable

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#999999")  # Okabe and Ito
INK = "#010203"  # which nothing else is drawn in: the page's own
_STYLE = {
    "svg.fonttype": "none",  # text stays text, in the page's own font
    "svg.hashsalt": "thaw",  # the same runs give the same page
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}
_WIDEST = 48  # columns of a candidate's name
_LABELLED = 12  # candidates that may have their names in a plot
_ENDS = 1e-3, 1 - 1e-3  # log-odds have none
_ROUND = (0.01, 0.02, 0.05, 0.95, 0.98, 0.99, 0.995)


def intervals(entries: Sequence[dict]) -> str:
    """Each candidate's accuracy with its 95 % interval, and every seed's as a dot."""

    def draw(axes: Axes) -> None:
        for place, (entry, colour) in enumerate(zip(entries, cycle(COLOURS))):
            axes.plot(_odds(entry["acc_ci95"]), [place, place], color=colour, linewidth=3, solid_capstyle="round")
            axes.plot(_odds([entry["acc"]]), place, "o", color=colour, markersize=9)
            axes.plot(_odds(entry["acc_by_seed"]), [place + 0.28] * len(entry["seeds"]), "|", color=INK, markersize=6)
        axes.set_yticks(range(len(entries)), [_named(entry) for entry in entries])
        axes.set_ylim(len(entries) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("validation accuracy (in log-odds): mean, 95 % interval, and a stroke for each seed")
        _in_log_odds(axes.xaxis)
        axes.grid(axis="x", alpha=0.3)

    return svg((9.6, 1.1 + 0.42 * len(entries)), draw)


def accuracy_and_time(entries: Sequence[dict]) -> str:
    """Accuracy against seconds; what nothing beats in both is joined by a line."""

    def draw(axes: Axes) -> None:
        front = sorted((entry["seconds"], entry["acc"]) for entry in entries if entry["pareto"])
        times, accuracies = zip(*front, strict=True)
        axes.plot(times, _odds(accuracies), drawstyle="steps-post", color=INK, linewidth=1, alpha=0.5, zorder=1)
        for entry, colour in zip(entries, cycle(COLOURS)):
            filled = colour if entry["pareto"] else "none"
            (place,) = _odds([entry["acc"]])
            axes.plot(entry["seconds"], place, "o", color=colour, markerfacecolor=filled, markersize=8)
            if len(entries) <= _LABELLED:
                axes.annotate(_named(entry), (entry["seconds"], place), (6, 6), textcoords="offset points")
        axes.set(xscale="log", xlabel="seconds a run takes (median)", ylabel="validation accuracy (in log-odds)")
        _in_log_odds(axes.yaxis)
        axes.xaxis.set_major_formatter(_plain())
        axes.xaxis.set_minor_formatter(_plain(only=(2, 5)))
        axes.tick_params(axis="x", which="both", length=4, pad=3)
        axes.margins(x=0.2, y=0.1)
        axes.grid(alpha=0.3)

    return svg((9.6, 4), draw)


def curves(entries: Sequence[dict]) -> str:
    """Validation accuracy and both losses by epoch: the mean of the seeds, and from where to where they reach."""
    figure_height = 3.6 + 0.22 * -(-len(entries) // 3)

    def draw(accuracy: Axes, loss: Axes) -> None:
        for entry, colour in zip(entries, cycle(COLOURS)):
            _band(accuracy, entry["curves"]["val/acc"], colour, label=_named(entry))
            _band(loss, entry["curves"]["val/loss"], colour)
            _band(loss, entry["curves"]["train/loss"], colour, linestyle=":")
        accuracy.set(xlabel="epoch", title="validation accuracy")
        accuracy.yaxis.set_major_formatter(percent())
        loss.set(xlabel="epoch", title="loss: validation (lines), training (dots)")
        for axes in (accuracy, loss):
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(alpha=0.3)
        accuracy.figure.legend(loc="outside lower center", ncols=3, frameon=False)

    return svg((9.6, figure_height), draw, columns=2)


def _band(axes: Axes, curve: dict, colour: str, **options) -> None:
    epochs = range(1, len(curve["mean"]) + 1)
    marker = "o" if len(curve["mean"]) == 1 else None
    axes.plot(epochs, curve["mean"], color=colour, marker=marker, **options)
    axes.fill_between(epochs, curve["low"], curve["high"], color=colour, alpha=0.15, linewidth=0)


def _named(entry: dict) -> str:
    """A candidate's name, which is neither a formula nor wider than a plot."""
    return cut(printable(entry["name"]), _WIDEST).replace("$", r"\$")


def _odds(shares: Sequence[float]) -> np.ndarray:
    """Log-odds, in which 98 and 99 % lie as far apart as 66 and 80 %."""
    return logit(np.clip(shares, *_ENDS))


def _in_log_odds(axis: Axis) -> None:
    """Round percentages along `axis`, as many as there is room for."""
    low, high = expit(axis.get_view_interval())
    for step in (0.1, 0.05, 0.02, 0.01, 0.005):
        round_ones = np.arange(step, 1 - step / 2, step)
        if ((round_ones > low) & (round_ones < high)).sum() >= 3:
            break
    ticks = sorted({*np.round(round_ones, 3), *(_ROUND if high > 0.9 or low < 0.1 else ())})
    shown = [tick for tick in ticks if low <= tick <= high]
    apart = (logit(high) - logit(low)) / 14
    kept = shown[-1:]
    for tick in reversed(shown[:-1]):
        if logit(kept[-1]) - logit(tick) >= apart:
            kept.append(tick)
    axis.set_ticks(logit(kept), [f"{100 * tick:.4g} %" for tick in kept])


def percent() -> FuncFormatter:
    """Shares as percentages."""
    return FuncFormatter(lambda value, _: f"{100 * value:.4g} %")


def _plain(only: Sequence[int] | None = None) -> FuncFormatter:
    """Numbers as they are, not as powers of ten; with `only`, those whose first digit is among them."""
    return FuncFormatter(lambda value, _: f"{value:g}" if only is None or int(f"{value:e}"[0]) in only else "")


def svg(size: tuple[float, float], draw: Callable, columns: int = 1) -> str:
    """What `draw` does to `columns` axes side by side, `size` in inches; `INK` becomes that of the page."""
    with rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the page's own font draws the text
        figure = Figure(size, layout="constrained")
        axes = figure.subplots(1, columns, squeeze=False)[0]
        draw(*axes)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn = file.getvalue()
    return drawn[drawn.index("<svg") :].replace(INK, "currentColor")
