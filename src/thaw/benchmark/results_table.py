"""Show the results of a benchmark as a table and as a figure."""

import textwrap

from matplotlib.figure import Figure

from thaw.benchmark.loop import BATCH_SIZE, WORKERS
from thaw.pages.charts import RIGHT, WRONG
from thaw.pages.text import aligned

_WIDTH = 110
_HEADER = ("case", "timed", "loop", "Thaw", "ratio")


def table(record: dict) -> str:
    """Return the results as a table, with notes on the measurements and the machine."""
    notes = [textwrap.fill(note, _WIDTH) for note in _notes(record)]
    if not compared(record):
        return "\n".join(notes)
    rows = [_HEADER, *(_cells(row) for row in compared(record))]
    return "\n".join([*aligned(rows, numbers=True, words=2, ruled=(1,)), "", *notes])


def bars(record: dict) -> Figure:
    """Plot the speed-up of Thaw over the plain PyTorch loop, with a bar for each case."""
    shown = compared(record)
    ratios = [row["ratio"] for row in shown]
    highest = max([1, *ratios])
    figure = Figure((9, 1.7 + 0.6 * len(shown)), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(shown)), ratios, color=[RIGHT if ratio >= 1 else WRONG for ratio in ratios], height=0.6)
    for place, row in enumerate(shown):
        text = f"{row['ratio']:.2f} ×  (loop {_seconds(row, 'loop')}, Thaw {_seconds(row, 'thaw')})"
        axes.text(max(1, row["ratio"]) + 0.01 * highest, place, text, va="center", fontsize=9)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(shown)), [f"{row['case']}\n{row['timed']}" for row in shown], fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.6 * highest)  # leaves room for the text beside the bars
    axes.set_xlabel(
        "\n".join(["times as fast as the tutorial's loop in plain PyTorch (1: equally fast)", *_share(record)])
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{record['options']['model']}, {_machine(record)}", fontsize=11)
    return figure


def compared(record: dict) -> list[dict]:
    """Return the rows that compare Thaw with the plain PyTorch loop."""
    return [row for row in record["rows"] if "ratio" in row]


def seconds(value: float) -> str:
    """Return `value` with three significant digits, or in whole seconds if it is at least 100."""
    return f"{value:.0f} s" if value >= 100 else f"{value:.3g} s"


def _cells(row: dict) -> tuple[str, ...]:
    return row["case"], row["timed"], _seconds(row, "loop"), _seconds(row, "thaw"), f"{row['ratio']:.2f} ×"


def _seconds(row: dict, side: str) -> str:
    return seconds(row[side]["median"])


def _notes(record: dict) -> list[str]:
    options, count = record["options"], record["options"]["repeats"]
    notes = [
        f"{_machine(record)}; {options['model']}, {options['images']['train']} training and {options['images']['val']} "
        f"validation images, crops of {options['train_size']} and {options['image_size']} px.",
        f"Medians of {count} repeat{'s' * (count > 1)}. An epoch is training and validation, without start-up, "
        "checkpoints and copies of the best weights. A whole run is the process from start to end, in which Thaw also "
        "writes checkpoints, predictions and figures.",
        f"The loop computes in float32, in batches of {BATCH_SIZE} that {WORKERS} workers load. Thaw has its own "
        f"defaults, which explain the difference: {_defaults(record)}.",
    ]
    if not record["finished"]:
        notes.append("The benchmark ended early, so repeats or cases are missing.")
    notes += [f"The loop's sweep is {row['loop_is']}." for row in record["rows"] if "loop_is" in row]
    if _share(record):
        notes += [*_share(record), "The ceiling is the same step on random images that are already on the device."]
    return notes


def _share(record: dict) -> list[str]:
    return [
        f"Thaw's fine_tune trains {row['thaw']['median']:.0f} images/s, {row['share']:.0%} of the ceiling of "
        f"{row['ceiling']['median']:.0f} images/s."
        for row in record["rows"]
        if "share" in row
    ]


def _defaults(record: dict) -> str:
    runs = [run for name, runs in record["measurements"].items() if name.startswith("thaw") for run in runs]
    run = runs[0].get("runs", runs)[0]
    chosen = " (by --batch-size)" if record["options"]["batch_size"] else ""
    return (
        f"batches of {run['batch_size']}{chosen}, precision {run['precision']}, channels_last={run['channels_last']}, "
        "and its cache"
    )


def _machine(record: dict) -> str:
    machine = record["machine"]
    return (
        f"{machine['gpu']}, {machine['cores']} cores"
        if machine["gpu"]
        else f"{machine['cores']} cores of {machine['cpu']}"
    )
