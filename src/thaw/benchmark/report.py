"""The rows of a benchmark as a table and as a picture."""

import statistics
from collections.abc import Sequence

from matplotlib.figure import Figure

from thaw.benchmark.loop import BATCH_SIZE, WORKERS
from thaw.report.figures import RIGHT, WRONG

_HEADER = ("case", "timed", "loop", "Thaw", "ratio")


def table(record: dict) -> str:
    """The rows with what they are medians of, and on which machine."""
    lines = [_HEADER, *(_cells(row) for row in compared(record))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADER))]
    lines.insert(1, tuple("-" * width for width in widths))
    text = [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width) for column, (cell, width) in _columns(line, widths)
        )
        for line in lines
    ]
    return "\n".join([*(line.rstrip() for line in text), "", *_notes(record)])


def bars(record: dict) -> Figure:
    """How many times as fast as the loop Thaw is, a bar for each case."""
    shown = compared(record)
    figure = Figure((8, 1.6 + 0.62 * len(shown)), layout="constrained")
    axes = figure.subplots()
    ratios = [row["ratio"] for row in shown]
    drawn = axes.barh(range(len(shown)), ratios, color=[RIGHT if ratio >= 1 else WRONG for ratio in ratios], height=0.6)
    labels = [f" {row['ratio']:.2f} ×   {_seconds(row, 'loop')} → {_seconds(row, 'thaw')}" for row in shown]
    axes.bar_label(drawn, labels, fontsize=9)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(shown)), [f"{row['case']}\n{row['timed']}" for row in shown], fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.45 * max([1, *ratios]))  # room for the labels
    axes.set_xlabel("times as fast as the tutorial's loop in plain PyTorch (1: just as fast)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{record['options']['model']}, {_machine(record)}", fontsize=11)
    return figure


def compared(record: dict) -> list[dict]:
    """The rows that have a ratio to the loop."""
    return [row for row in record["rows"] if "ratio" in row]


def seconds(value: float) -> str:
    """Three digits that count, and whole seconds from 100 on."""
    return f"{value:.0f} s" if value >= 100 else f"{value:.3g} s"


def _columns(line: Sequence[str], widths: Sequence[int]):
    return enumerate(zip(line, widths, strict=True))


def _cells(row: dict) -> tuple[str, ...]:
    return row["case"], row["timed"], _seconds(row, "loop"), _seconds(row, "thaw"), f"{row['ratio']:.2f} ×"


def _seconds(row: dict, side: str) -> str:
    return seconds(row[side]["median"])


def _notes(record: dict) -> list[str]:
    options = record["options"]
    notes = [
        f"{_machine(record)}; {options['model']}, {options['images']['train']} training and {options['images']['val']} "
        f"validation images, crops of {options['train_size']} and {options['image_size']} px; "
        f"medians of {options['repeats']} run(s) each.",
        f"The loop computes in float32, in batches of {BATCH_SIZE} that {WORKERS} workers load. Thaw runs with its own "
        f"defaults ({_defaults(record)}), which is where most of its speed comes from; its whole runs include "
        "checkpoints, predictions and figures.",
        "An epoch is training and validation, without start-up and without keeping the best weights.",
    ]
    for row in record["rows"]:
        if row["case"] == "sweep":
            notes.append(f"The loop's sweep is {row.get('loop_is')}.")
        if "share" in row:
            notes.append(
                f"Thaw's fine_tune trains {row['thaw']['median']:.0f} images/s, {row['share']:.0%} of the "
                f"{row['ceiling']['median']:.0f} images/s of the same step on random images that are on the device."
            )
    return notes


def _defaults(record: dict) -> str:
    runs = [run for name, runs in record["measurements"].items() if name.startswith("thaw") for run in runs]
    runs = [run for outer in runs for run in outer.get("runs", [outer])]
    told = [f"batches of {run['batch_size']}, {run['precision']}, frozen stages without gradients" for run in runs]
    return statistics.mode(told) if told else "see conf/train.yaml"


def _machine(record: dict) -> str:
    machine = record["machine"]
    return (
        f"{machine['gpu']}, {machine['cores']} cores"
        if machine["gpu"]
        else f"{machine['cores']} cores of {machine['cpu']}"
    )
