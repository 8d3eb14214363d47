"""Medians and ratios of measurements, and the file benchmark.json."""

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from thaw.benchmark.cases import CASES, SWEPT_RATES, SWEPT_SEEDS, Case, reference_task, thaw_task
from thaw.data.workers import usable_cores
from thaw.storage.files import write_whole
from thaw.storage.versions import library_version

Measurements = Mapping[str, Sequence[dict]]  # name of a task -> result of each repeat

_PACKAGES = ("torch", "torchvision", "lightning")


def rows(names: Sequence[str], measured: Measurements, epochs: int | None = None, every_loop: bool = False) -> list:
    """Return a row for each case in `names` for which both Thaw and its reference have been measured."""
    found = []
    for name, case in CASES.items():
        thaw = measured.get(thaw_task(case, epochs).name)
        reference = measured.get(reference_task(case, epochs, every_loop).name)
        if name in names and thaw and reference:
            compared = against_ceiling if case.ceiling else against_loop
            found.append({"case": name, "timed": case.timed, **compared(case, reference, thaw)})
    return found


def against_loop(case: Case, loop: Sequence[dict], thaw: Sequence[dict]) -> dict:
    """Return the seconds of every repeat, the medians, and `ratio`: the loop's median divided by Thaw's."""
    times = len(SWEPT_RATES) * len(SWEPT_SEEDS) if case.sweep and "runs" not in loop[0] else 1
    loop_seconds = [times * _seconds(case, run) for run in loop]
    sides = _with_medians("seconds", loop=loop_seconds, thaw=[_seconds(case, run) for run in thaw])
    return {
        **sides,
        "ratio": sides["loop"]["median"] / sides["thaw"]["median"],
        **({"loop_is": f"{times} times one run" if times > 1 else "measured"} if case.sweep else {}),
    }


def against_ceiling(case: Case, ceiling: Sequence[dict], thaw: Sequence[dict]) -> dict:
    """Return the images per second of every repeat, the medians, and `share`: Thaw's median / the ceiling's."""
    sides = _with_medians(
        "images_per_second",
        ceiling=[run["images_per_second"] for run in ceiling],
        thaw=[run["train_images_per_second"] for run in thaw],
    )
    return {**sides, "share": sides["thaw"]["median"] / sides["ceiling"]["median"]}


def _with_medians(unit: str, **sides: list[float]) -> dict[str, dict]:
    return {side: {unit: values, "median": statistics.median(values)} for side, values in sides.items()}


def _seconds(case: Case, run: dict) -> float:
    return statistics.median(run["epochs"]) if case.timed == "an epoch" else run["seconds"]


def write(path: Path, record: dict) -> None:
    """Write `record` as JSON; replace `path` atomically, so that other programs can read it at any time."""
    write_whole(path, json.dumps(record, indent=2, ensure_ascii=False, default=str) + "\n")


def machine() -> dict:
    return {
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "system": platform.platform(),
        "versions": {"python": platform.python_version()} | {name: library_version(name) for name in _PACKAGES},
    }


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
