"""Medians and ratios of measurements, and the file benchmark.json."""

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from thaw.benchmark.cases import CASES, SWEPT_RATES, SWEPT_SEEDS, Case, reference_task, thaw_task
from thaw.storage.versions import library_version

Measurements = Mapping[str, Sequence[dict]]  # by task name

_PACKAGES = ("torch", "torchvision", "lightning")


def rows(names: Sequence[str], measured: Measurements, epochs: int | None = None, every_loop: bool = False) -> list:
    """Return a row for each of the cases `names` for which both sides were measured."""
    found = []
    for name, case in CASES.items():
        thaw = measured.get(thaw_task(case, epochs).name)
        reference = measured.get(reference_task(case, epochs, every_loop).name)
        if name in names and thaw and reference:
            compared = against_ceiling if case.ceiling else against_loop
            found.append({"case": name, "timed": case.timed, **compared(case, reference, thaw)})
    return found


def against_loop(case: Case, loop: Sequence[dict], thaw: Sequence[dict]) -> dict:
    """Return the seconds of every repeat, their medians, and the speed-up of Thaw."""
    times = 1
    if case.sweep and "runs" not in loop[0]:
        times = len(SWEPT_RATES) * len(SWEPT_SEEDS)
    sides = {"loop": [times * _seconds(case, run) for run in loop], "thaw": [_seconds(case, run) for run in thaw]}
    medians = {side: statistics.median(seconds) for side, seconds in sides.items()}
    return {
        **{side: {"seconds": sides[side], "median": medians[side]} for side in sides},
        "ratio": medians["loop"] / medians["thaw"],
        **({"loop_is": f"{times} times one run" if times > 1 else "measured"} if case.sweep else {}),
    }


def against_ceiling(case: Case, ceiling: Sequence[dict], thaw: Sequence[dict]) -> dict:
    """Return images per second, and training's share of the rate on random images."""
    rates = {
        "ceiling": [run["images_per_second"] for run in ceiling],
        "thaw": [run["train_images_per_second"] for run in thaw],
    }
    medians = {side: statistics.median(values) for side, values in rates.items()}
    sides = {side: {"images_per_second": rates[side], "median": medians[side]} for side in rates}
    return {**sides, "share": medians["thaw"] / medians["ceiling"]}


def _seconds(case: Case, run: dict) -> float:
    return statistics.median(run["epochs"]) if case.timed == "an epoch" else run["seconds"]


def write(path: Path, record: dict) -> None:
    """Replace `path` atomically, so that it can be read during the benchmark."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    os.replace(part, path)


def machine() -> dict:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": cpu_model(),
        "cores": cores,
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "system": platform.platform(),
        "versions": {
            "python": platform.python_version(),
            **{name: library_version(name) for name in _PACKAGES},
        },
    }


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
