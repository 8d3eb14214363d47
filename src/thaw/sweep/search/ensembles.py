"""Averages of several runs' probabilities, as further candidates beside the single models."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thaw.evaluation.predictions_table import COLUMNS
from thaw.evaluation.statistics import LEVEL, Correctness, PairedTests, holm
from thaw.runs import run_files
from thaw.sweep.search.final_stage import FINAL

_MEMBERS = 3


def ensembles(folder: Path, runs: Mapping[int, Sequence[dict]], winner: int) -> list[dict[str, Any]]:
    """Return averages of probabilities on the test images, each with its verdict compared with the winner alone.

    Args:
        folder: the search's folder.
        runs: the finished runs of each finalist, by the number of its trial, the most accurate first.
        winner: the number of the winner's trial.

    """
    tables = {
        number: {run["seed"]: _read(folder / FINAL / run["folder"] / run_files.TEST_PREDICTIONS) for run in own}
        for number, own in runs.items()
    }
    own = tables[winner]
    seeds = sorted(own)
    found: dict[str, tuple[Correctness, int]] = {}
    members = [winner, *(number for number in runs if number != winner)][:_MEMBERS]
    shared = [seed for seed in seeds if all(seed in tables[number] for number in members)]
    if len(members) > 1 and shared:
        averages = [[tables[number][seed] for number in members] for seed in shared]
        found[f"the average of trials {', '.join(map(str, members))}"] = (_correctness(averages), len(members))
    if len(seeds) > 1:
        found[f"the average of trial {winner} over {len(seeds)} seeds"] = (
            _correctness([list(own.values())]),
            len(seeds),
        )
    alone = _correctness([[own[seed]] for seed in seeds])
    rows = []
    for name, (averaged, networks) in found.items():
        (test,) = PairedTests({"average": averaged, "alone": alone}).results()
        rows.append(
            {"name": name, "acc": averaged.accuracy, "networks": networks, "p": test.p, "difference": test.difference}
        )
    for row, p in zip(rows, holm([row["p"] for row in rows]) if rows else [], strict=True):
        row["p"], row["cost"] = p, f"{row['networks']} times the time per image"
        row["verdict"] = "tied" if p >= LEVEL else "better" if row["difference"] > 0 else "worse"
    return rows


def _correctness(averages: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]]) -> Correctness:
    """Return the correctness of averaged probabilities: an entry per seed, with the members to average."""
    right = []
    for members in averages:
        labels, _ = members[0]
        right.append(np.mean([probabilities for _, probabilities in members], axis=0).argmax(1) == labels)
    return Correctness(np.array(right))


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return labels, int (n,), and probabilities, float (n, classes), of the images in the order of their paths."""
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = csv.reader(file)
        classes = [name.removeprefix("p_") for name in next(rows)[len(COLUMNS) :]]
        table = sorted(rows)
    place = {name: index for index, name in enumerate(classes)}
    labels = np.array([place[row[COLUMNS.index("label")]] for row in table])
    return labels, np.array([row[len(COLUMNS) :] for row in table], float)
