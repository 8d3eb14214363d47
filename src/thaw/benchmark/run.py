"""A benchmark from its options to its table."""

import argparse
import statistics
from pathlib import Path

from thaw.benchmark import report, results
from thaw.benchmark.cases import Task, plan
from thaw.benchmark.inputs import drawn_photographs, random_weights
from thaw.benchmark.processes import Sides
from thaw.data.folders import ClassFolders, aligned_classes
from thaw.errors import UserError
from thaw.report import figures
from thaw.training.callbacks import duration


def run_benchmark(options: argparse.Namespace, out: Path, project: Path) -> None:
    """Writes `benchmark.json` after every process, and `benchmark.png`, in the new folder `out`; prints the table.

    Raises:
        UserError: if `out` is in use, or for images or a model that cannot be compared.
        RunError: if a process fails; the measurements until then are kept.

    """
    if out.exists() and any(out.iterdir()):
        raise UserError(f"--out {out} is not empty; name a new folder.")
    sides, images = _prepared(options, out.absolute(), project)
    record = {
        "finished": False,
        "machine": results.machine(),
        "options": {**_plain(vars(options)), "images": images},
        "rows": [],
        "measurements": {},
    }
    tasks = plan(options.cases, options.repeats, options.epochs, options.run_all_loops)
    print(f"{len(tasks)} measurements, kept in {out}", flush=True)
    try:
        sides.warm_up()
        for number, task in enumerate(tasks, start=1):
            left = time_left(tasks[number - 1 :], record["measurements"])
            print(f"{number}/{len(tasks)}  {task}{left}", flush=True)
            record["measurements"].setdefault(task.name, []).append(sides.measure(task))
            given = (options.cases, record["measurements"], options.epochs, options.run_all_loops)
            record["rows"] = results.rows(*given)
            results.write(out / "benchmark.json", record)
    finally:
        sides.remove_cache()
    record["finished"] = True
    results.write(out / "benchmark.json", record)
    print(f"\n{report.table(record)}")
    if report.compared(record):
        figures.save(report.bars(record), out / "benchmark.png")


def time_left(tasks: list[Task], measured: results.Measurements) -> str:
    """From the medians of what has been measured; nothing before anything has."""
    known = [statistics.median(run["seconds"] for run in measured[t.name]) for t in tasks if t.name in measured]
    if not known:
        return ""
    least = "at least " if len(known) < len(tasks) else ""
    return f"; {least}{duration(sum(known))} left"


def _prepared(options: argparse.Namespace, out: Path, project: Path) -> tuple[Sides, dict]:
    root = options.root.expanduser().absolute() if options.root else None
    if root:
        aligned_classes(root / "train", root / "val")
    out.mkdir(parents=True, exist_ok=True)
    weights = random_weights(options.model, out / "weights.pth")
    root = root or drawn_photographs(options.train, options.val)
    classes = aligned_classes(root / "train", root / "val")
    images = {split: len(ClassFolders(root / split, classes, transform=None)) for split in ("train", "val")}
    sizes = {name: getattr(options, name) for name in ("train_size", "image_size", "batch_size")}
    return Sides(project, root, weights, options.model, len(classes), out, **sizes), images


def _plain(values: dict) -> dict:
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
