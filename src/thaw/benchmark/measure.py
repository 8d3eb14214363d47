"""Run a benchmark and print its table."""

import argparse
import statistics
from pathlib import Path

from torchvision.transforms.functional import pil_to_tensor

from thaw.benchmark import measurements, results_table
from thaw.benchmark.cases import Task, plan
from thaw.benchmark.inputs import check_model, drawn_photographs, random_weights
from thaw.benchmark.sides import Sides
from thaw.data.folders import ClassFolders
from thaw.data.layout import aligned_classes
from thaw.errors import UserError
from thaw.pages import charts
from thaw.pages.text import duration
from thaw.runs.writable import refuse_unwritable


def run_benchmark(options: argparse.Namespace, out: Path) -> None:
    """Run a benchmark; write `out/benchmark.json` after every measurement, and `out/benchmark.png` at the end.

    If the benchmark is interrupted, print the table and draw the figure of the measurements so far.

    Raises:
        UserError: if `out` is not empty, or the benchmark does not support the images or the model.
        RunError: if a process fails.

    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"--out {out} is not empty; name a new folder.")
    check_model(options.model)
    root = (options.root or drawn_photographs(options.train, options.val)).expanduser().absolute()
    classes = aligned_classes(root / "train", root / "val")
    images = {split: len(ClassFolders(root / split, classes, pil_to_tensor)) for split in ("train", "val")}
    refuse_unwritable(out, "--out")
    record = {
        "finished": False,
        "machine": measurements.machine(),
        "options": {**vars(options), "images": images},
        "rows": [],
        "measurements": {},
    }
    sizes = {name: getattr(options, name) for name in ("train_size", "image_size", "batch_size")}
    weights = random_weights(options.model, out.absolute() / "weights.pth")
    sides = Sides(root, weights, options.model, len(classes), out.absolute(), **sizes)
    try:
        _measure_all(sides, record, out / "benchmark.json", options)
    finally:
        sides.empty_cache()
        weights.unlink()
        _show(record, out)


def _measure_all(sides: Sides, record: dict, path: Path, options: argparse.Namespace) -> None:
    tasks = plan(options.cases, options.repeats, options.epochs, options.run_all_loops)
    measured = record["measurements"]
    print(f"{len(tasks)} measurements, kept in {path}", flush=True)
    measurements.write(path, record)
    sides.warm_up()
    for number, task in enumerate(tasks, start=1):
        left = time_left(tasks[number - 1 :], measured)
        print(f"{number:>{len(str(len(tasks)))}}/{len(tasks)}  {task}{left}", flush=True)
        measured.setdefault(task.name, []).append(sides.measure(task))
        record["rows"] = measurements.rows(options.cases, measured, options.epochs, options.run_all_loops)
        record["finished"] = number == len(tasks)
        measurements.write(path, record)


def _show(record: dict, out: Path) -> None:
    if results_table.compared(record) or record["finished"]:
        print(f"\n{results_table.table(record)}")
    if results_table.compared(record):
        charts.save(results_table.bars(record), out / "benchmark.png")


def time_left(tasks: list[Task], measured: measurements.Measurements) -> str:
    """Return the remaining time as text, estimated from median times so far; empty if nothing is measured yet."""
    known = [statistics.median(run["seconds"] for run in measured[t.name]) for t in tasks if t.name in measured]
    if not known:
        return ""
    least = "at least " if len(known) < len(tasks) else ""
    return f"; {least}{duration(sum(known))} left"
