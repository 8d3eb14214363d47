"""Compare finished runs: compute the content of `comparison.json` and of `report.html`."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from thaw.comparison.advice import advice, cautions
from thaw.comparison.candidates import Candidate, candidates
from thaw.comparison.finished_runs import Run, Trial, trials, without_repetitions
from thaw.data.label_sets import SEPARATOR
from thaw.evaluation.confusion import confused_pairs
from thaw.evaluation.statistics import LEVEL, PairedTest, PairedTests
from thaw.pages.limits import CONFUSIONS, KEPT_MATRIX
from thaw.pages.metric_names import score
from thaw.runs import run_files

_OTHER_METRICS = {
    "acc": ("macro_acc", "macro_f1", "ece", "loss"),
    "map": ("acc", "macro_f1", "micro_f1", "ece", "loss"),
}
SHOWN = 12  # the page shows this many images on which candidates disagree


def compare(runs: Sequence[Run], folder: Path) -> dict:
    """Compare `runs`, and return plain values; the paths of runs are relative to `folder`.

    Only the largest group of runs with the same validation images is compared; `left_out` lists the other runs.
    """
    finished = without_repetitions([run for run in runs if run.finished])
    same = _with_common_images(trials(finished))
    found, compared = candidates(same), [run for trial in same for run in trial.runs]
    paired = PairedTests({one.name: one.correctness for one in found})
    tests = paired.results()
    classes = compared[0].summary["classes"] if compared else []
    entries = [_candidate_entry(one, paired, tests, found[0], classes, folder) for one in found]
    _add_robustness(entries, found)
    for entry in entries:
        entry["pareto"] = not any(dominates(other, entry, "seconds") for other in entries)
    facts = {
        "candidates": entries,
        "tests": [_test_entry(test) for test in tests],
        "method": tests[0].method if tests else None,
        "level": LEVEL,
        "metric": found[0].metric if found else "acc",
        "classes": classes,
        "split": runs[0].split if runs else "val",
        "images": found[0].correctness.images if found else 0,
        "groups": found[0].correctness.count if found and found[0].correctness.grouped else None,
        "images_by_class": _images_by_class(found[0], classes) if found else {},
        "disagreements": _disagreements(found, [entry["verdict"] != "worse" for entry in entries]),
        "failures": [_failure_entry(run, folder) for run in runs if run.status == "failed"],
        "unfinished": [_relative_folder(run, folder) for run in runs if run.status not in ("finished", "failed")],
        "left_out": [_relative_folder(run, folder) for run in finished if run not in compared],
        "data": {key: compared[0].summary.get(key) for key in ("data", "data_root", "fingerprint")} if compared else {},
        "copies": max((run.summary.get("copies_in_training", {}).get(run.split, 0) for run in compared), default=0),
        "machine": _distinct_values(compared, "device", "precision", "versions"),
    }
    return {"advice": advice(facts), "cautions": cautions(facts), **facts}


def _add_robustness(entries: Sequence[dict], found: Sequence[Candidate]) -> None:
    """Add each candidate's accuracy on corrupted images, and its verdict compared with the most robust candidate."""
    measured = {one.name: one.robustness for one in found if one.robustness}
    tested = measured if len({one.images for one in measured.values()}) == 1 else {}
    best = max(tested, key=lambda name: tested[name].accuracy, default="")
    tests = PairedTests(tested).results()
    for entry in entries:
        entry["robustness"] = None
        if entry["name"] in tested:
            found_verdict = _verdict(entry["name"], best, tests)
            accuracy = tested[entry["name"]].accuracy
            entry["robustness"] = {"acc": accuracy, "verdict": found_verdict["verdict"], "p": found_verdict["p"]}


def _images_by_class(one: Candidate, classes: Sequence[str]) -> dict[str, int]:
    labels = [label for _, label, _, _ in one.trials[0].predictions]
    counts = Counter(name for label in labels for name in (label.split(SEPARATOR) if one.metric == "map" else [label]))
    return {name: counts[name] for name in classes}


def _with_common_images(all_trials: Sequence[Trial]) -> list[Trial]:
    most = dict(Counter(trial.images for trial in all_trials).most_common(1))
    return [trial for trial in all_trials if trial.images in most]


def _candidate_entry(
    one: Candidate,
    paired: PairedTests,
    tests: Sequence[PairedTest],
    best: Candidate,
    classes: Sequence[str],
    folder: Path,
) -> dict:
    metric = one.metric
    return {
        "name": one.name,
        "strategy": one.runs[0].summary["strategy"],
        "seeds": [trial.seed for trial in one.trials],
        "metric": metric,
        metric: one.correctness.accuracy,
        f"{metric}_ci95": paired.interval(one.name),
        f"{metric}_by_seed": one.correctness.right.mean(1).tolist(),
        **_verdict(one.name, best.name, tests),
        **{key: one.mean(one.runs[0].split, key) for key in (_OTHER_METRICS[metric])},
        "parameters": {key: int(one.mean("parameters", key)) for key in ("total", "trainable")},
        "seconds": one.median("seconds", "total"),
        "train_images_per_second": one.median("train_images_per_second"),
        "peak_memory_mb": max(run.summary["peak_memory_mb"] for run in one.runs),
        **_by_class(one, classes),
        "curves": {
            key: _curve_entry(one.runs, key) for key in ("train/loss", "train/acc", "val/loss", f"val/{metric}")
        },
        "runs": [_run_entry(run, folder) for run in one.runs],
    }


def _by_class(one: Candidate, classes: Sequence[str]) -> dict:
    """Return the accuracy of each class and the confusions, or the average precision of each class."""
    if one.metric == "map":
        return {"map_by_class": dict(zip(classes, one.average_precisions().tolist(), strict=True))}
    confusion = one.confusion(classes)
    return {
        "acc_by_class": dict(zip(classes, (confusion.diagonal() / confusion.sum(1).clip(1)).tolist(), strict=True)),
        "confusion": confusion.toarray().tolist() if len(classes) <= KEPT_MATRIX else None,
        "confused": confused_pairs(confusion, classes, CONFUSIONS),
    }


def _verdict(name: str, best: str, tests: Sequence[PairedTest]) -> dict:
    if name == best:
        return {"verdict": "best", "difference": 0.0, "p": None}
    test = next(test for test in tests if {test.a, test.b} == {name, best})
    verdict = "tied" if test.verdict == "tied" else "worse"
    return {"verdict": verdict, "difference": -abs(test.difference), "p": test.adjusted}


def _curve_entry(runs: Sequence[Run], key: str) -> dict:
    longest = max(len(run.epochs) for run in runs)
    values = [[run.epochs[epoch][key] for run in runs if epoch < len(run.epochs)] for epoch in range(longest)]
    return {name: [float(of(each)) for each in values] for name, of in (("mean", np.mean), ("low", min), ("high", max))}


def _run_entry(run: Run, folder: Path) -> dict:
    return {
        "folder": _relative_folder(run, folder),
        "command": run.command,
        run.metric: run.accuracy,
        "seconds": run.summary["seconds"]["total"],
        **{key: run.summary[key] for key in ("seed", "best_epoch", "epochs")},
    }


def _failure_entry(run: Run, folder: Path) -> dict:
    kept = run.folder / run_files.TRACEBACK
    return {
        "folder": _relative_folder(run, folder),
        "command": run.command,
        "error": run.summary.get("error", ""),
        "traceback": f"{_relative_folder(run, folder)}/{run_files.TRACEBACK}" if kept.is_file() else None,
    }


def _test_entry(test: PairedTest) -> dict:
    facts = ("a", "b", "difference", "interval", "p", "adjusted", "verdict", "method")
    return {name: getattr(test, name) for name in facts}


def dominates(other: dict, entry: dict, cost: str) -> bool:
    """Return whether `other` beats `entry` in accuracy or `cost` (lower is better), and is worse in neither."""
    pairs = (score(other), score(entry)), (-other[cost], -entry[cost])
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def _disagreements(found: Sequence[Candidate], good: Sequence[bool]) -> list[dict]:
    """Return the images for which the share of seeds with a correct prediction varies most between candidates.

    The variation among the candidates that are not worse than the best decides first, because the mistakes of bad
    candidates say little about an image.
    """
    if len(found) < 2:
        return []
    shares = np.array([one.correctness.by_image for one in found])
    spreads = np.stack([shares[list(good)].var(0), shares.var(0)], axis=1).round(9)
    rows = found[0].trials[0].predictions
    differing = [image for image in np.flatnonzero(spreads[:, 1]) if len({str(one.votes[image]) for one in found}) > 1]
    order = sorted(differing, key=lambda image: (*-spreads[image], rows[image][0]))[:SHOWN]
    return [
        {
            "path": rows[image][0],
            "label": rows[image][1],
            "answers": {one.name: dict(one.votes[image].most_common()) for one in found},
        }
        for image in order
    ]


def _distinct_values(runs: Sequence[Run], *keys: str) -> dict:
    found = {key: [run.summary.get(key) for run in runs] for key in keys}
    return {
        key: [value for place, value in enumerate(values) if value not in values[:place]]
        for key, values in found.items()
    }


def _relative_folder(run: Run, folder: Path) -> str:
    return Path(os.path.relpath(run.folder, folder)).as_posix()
