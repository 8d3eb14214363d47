"""What several runs give together: averages of their probabilities or weights, beside the winner alone."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thaw.evaluation.predictions_table import COLUMNS
from thaw.evaluation.statistics import LEVEL, Correctness, PairedTests, holm
from thaw.runs import run_files
from thaw.sweep.search.final_stage import FINAL
from thaw.sweep.search.merged_weights import Merged

_MEMBERS = 3
_Table = tuple[np.ndarray, np.ndarray]  # labels, int (n,), and probabilities, float (n, classes)


def ensembles(
    folder: Path, runs: Mapping[int, Sequence[dict]], winner: int, merged: Sequence[Merged] = ()
) -> list[dict[str, Any]]:
    """Return what several runs give together on the test images, each with its verdict compared with the winner alone.

    Args:
        folder: the search's folder.
        runs: the finished runs of each finalist, by the number of its trial, the most accurate first.
        winner: the number of the winner's trial.
        merged: networks of averaged weights.

    """
    tables = {
        number: {run["seed"]: _read(folder / FINAL / run["folder"] / run_files.TEST_PREDICTIONS) for run in own}
        for number, own in runs.items()
    }
    own = tables[winner]
    alone = _correctness([[own[seed]] for seed in sorted(own)])
    rows = []
    for name, averages in _averages(tables, winner).items():
        networks = len(averages[0])
        rows.append(_row(name, _correctness(averages), alone, f"{networks} times the time per image"))
    for one in merged:
        path = str(one.path.relative_to(folder))
        rows.append({**_row(one.name, Correctness(one.right[None]), alone, "the time of one network"), "model": path})
    for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p"] = p
        row["verdict"] = "tied" if p >= LEVEL else "better" if row["difference"] > 0 else "worse"
    return rows


def _averages(tables: Mapping[int, Mapping[int, _Table]], winner: int) -> dict[str, list[list[_Table]]]:
    """Return the members of each average, for each seed: the best finalists, and the winner's seeds."""
    found: dict[str, list[list[_Table]]] = {}
    members = [winner, *(number for number in tables if number != winner)][:_MEMBERS]
    shared = [seed for seed in tables[winner] if all(seed in tables[number] for number in members)]
    if len(members) > 1 and shared:
        name = f"the average of trials {', '.join(map(str, members))}"
        found[name] = [[tables[number][seed] for number in members] for seed in shared]
    if len(tables[winner]) > 1:
        found[f"the average of trial {winner} over {len(tables[winner])} seeds"] = [list(tables[winner].values())]
    return found


def _row(name: str, right: Correctness, alone: Correctness, cost: str) -> dict[str, Any]:
    (test,) = PairedTests({"together": right, "alone": alone}).results()
    return {
        "name": name,
        "acc": right.accuracy,
        "p": test.p,
        "difference": test.difference,
        "cost": cost,
        "model": None,
    }


def _correctness(averages: Sequence[Sequence[_Table]]) -> Correctness:
    """Return the correctness of averaged probabilities: an entry per seed, with the members to average."""
    right = []
    for members in averages:
        labels, _ = members[0]
        right.append(np.mean([probabilities for _, probabilities in members], axis=0).argmax(1) == labels)
    return Correctness(np.array(right))


def _read(path: Path) -> _Table:
    """Return labels, int (n,), and probabilities, float (n, classes), of the images in the order of their paths."""
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = csv.reader(file)
        classes = [name.removeprefix("p_") for name in next(rows)[len(COLUMNS) :]]
        table = sorted(rows)
    place = {name: index for index, name in enumerate(classes)}
    labels = np.array([place[row[COLUMNS.index("label")]] for row in table])
    return labels, np.array([row[len(COLUMNS) :] for row in table], float)
