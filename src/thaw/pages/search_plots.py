"""Plots of a search, as SVG in the text colour of the page."""

import re
from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from thaw.pages.plots import COLOURS, INK, accuracy_and_cost, percent, svg
from thaw.pages.text import cut, printable

_WIDTH = 7.2  # inches
_MARKS = {"complete": "o", "ended early": "x", "failed": "^", "unfinished": "s"}
_LABEL = 14  # largest width of a value's label at an axis, in columns
_FEW = 8  # largest number of labels at an option's axis


def best_so_far(rows: Sequence[dict], final: dict | None) -> str:
    """Plot each trial's accuracy against the time of its end, the best so far, and the winner on unseen images."""
    ended = sorted(rows, key=lambda row: row["ended"])
    colours = strategy_colours(rows)
    strategies = list(colours)

    def draw(axes: Axes) -> None:
        for row in ended:
            axes.plot(
                row["ended"] / 60, row["acc"], _MARKS[row["result"]], color=colours[row["strategy"]], markersize=5
            )
        complete = [row for row in ended if row["result"] == "complete"]
        if complete:
            best = np.maximum.accumulate([row["acc"] for row in complete])
            minutes = [row["ended"] / 60 for row in complete]
            axes.plot(
                [*minutes, ended[-1]["ended"] / 60], [*best, best[-1]], drawstyle="steps-post", color=INK, linewidth=1
            )
        if final:
            axes.axhspan(final["low"], final["high"], color=INK, alpha=0.08, linewidth=0)
            axes.axhline(final["acc"], color=INK, linestyle="--", linewidth=1)
        axes.set(xlabel="minutes of the budget", ylabel="accuracy the search saw")
        axes.yaxis.set_major_formatter(percent())
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
        keys = [Line2D([], [], marker="o", linestyle="", color=colours[name], label=name) for name in strategies]
        keys += [Line2D([], [], marker="x", linestyle="", color=INK, label="ended early")]
        keys += [Line2D([], [], color=INK, linewidth=1, label="best so far")]
        if final:
            keys += [Line2D([], [], color=INK, linestyle="--", linewidth=1, label="winner on unseen images")]
        axes.figure.legend(handles=keys, loc="outside lower center", ncols=4, frameon=False)

    return svg((_WIDTH, 4.2), draw)


def strategy_colours(rows: Sequence[dict]) -> dict[str, str]:
    """Return a colour for each strategy, the same in all plots of a page."""
    return dict(zip(sorted({row["strategy"] for row in rows}), cycle(COLOURS)))


def importances(shares: Mapping[str, float]) -> str:
    """Plot how much each option decides whether a trial is good."""

    def draw(axes: Axes) -> None:
        axes.barh(range(len(shares)), list(shares.values()), color=COLOURS[0], height=0.6)
        axes.set_yticks(range(len(shares)), [cut(printable(name), 40) for name in shares])
        axes.set_ylim(len(shares) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_formatter(percent())

    return svg((_WIDTH, 0.7 + 0.3 * len(shares)), draw)


def parallel(rows: Sequence[dict], keys: Sequence[str], winner: int | None) -> str:
    """Plot each trial as a line through the values of its options to its accuracy. Better trials are darker."""
    values = {key: {str(row["params"][key]) for row in rows if key in row["params"]} for key in keys}
    used = [key for key in keys if len(values[key]) > 1]
    scales = {key: _scale([row["params"].get(key) for row in rows]) for key in used}
    accuracies = [row["acc"] for row in rows]
    low, high = min(accuracies), max(accuracies)

    def draw(axes: Axes) -> None:
        ranks = np.argsort(np.argsort(accuracies)) / max(1, len(rows) - 1)
        for row, rank in sorted(zip(rows, ranks, strict=True), key=lambda pair: pair[1]):
            places = [scales[key][0].get(str(row["params"].get(key)), -0.08) for key in used]
            heights = [*places, (row["acc"] - low) / (high - low) if high > low else 0.5]
            colour = COLOURS[1] if row["number"] == winner else COLOURS[0]
            alpha = 1.0 if row["number"] == winner else 0.1 + 0.7 * rank**3
            axes.plot(range(len(heights)), heights, color=colour, alpha=alpha, linewidth=1 + rank)
        ticks = {"accuracy": [(0.0, f"{100 * low:.4g} %"), (1.0, f"{100 * high:.4g} %")]}
        for place, name in enumerate([*used, "accuracy"]):
            axes.axvline(place, color=INK, linewidth=0.6)
            for height, text in ticks.get(name) or scales[name][1]:
                axes.annotate(text, (place, height), (3, 1), textcoords="offset points", fontsize=7)
        axes.set_xticks(
            range(len(used) + 1), [re.sub(r"[._]", r"\g<0>\n", name) for name in [*used, "accuracy"]], fontsize=7
        )
        axes.set_xlim(-0.1, len(used) + 0.6)
        axes.set_ylim(-0.12, 1.08)
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)

    return svg((_WIDTH, 3.6), draw)


def _scale(values: Sequence[object]) -> tuple[dict[str, float], list[tuple[float, str]]]:
    """Return the height, within 0..1, of each value except None, and the labels with their heights."""
    given = [value for value in values if value is not None]
    distinct = list(dict.fromkeys(given))
    numbers = [value for value in distinct if isinstance(value, float)]
    if len(numbers) == len(distinct) and len(distinct) > 1:
        scaled = np.log(numbers) if min(numbers) > 0 else np.array(numbers)
        low, high = scaled.min(), scaled.max()
        heights = {str(value): float((one - low) / (high - low)) for value, one in zip(numbers, scaled, strict=True)}
        ends = (min(numbers), max(numbers))
        return heights, [(heights[str(value)], f"{value:.3g}") for value in ends]
    ordered = sorted(distinct, key=_order)
    heights = {str(value): place / max(1, len(ordered) - 1) for place, value in enumerate(ordered)}
    shown = ordered if len(ordered) <= _FEW else ordered[:: -(-len(ordered) // _FEW)]
    return heights, [(heights[str(value)], cut(printable(str(value)), _LABEL)) for value in shown]


def _order(value: object) -> tuple[float, str]:
    """Return a sort key: numbers in their order, then other values by their text."""
    try:
        return float(str(value)), ""
    except ValueError:
        return float("inf"), str(value)


def front(rows: Sequence[dict], colours: Mapping[str, str], cost: str, label: str) -> str | None:
    """Plot accuracy over the entry `cost`; a line joins the trials of the Pareto front."""
    entries = [{**row, "name": f"trial {row['number']}"} for row in rows]
    drawn = [colours[entry["strategy"]] for entry in entries]
    return accuracy_and_cost(entries, cost, label, drawn) if entries else None
