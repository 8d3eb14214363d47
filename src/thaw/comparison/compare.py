"""All that a comparison says, as plain values: `comparison.json`, from which the page is made."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from thaw.comparison.advice import advice, cautions
from thaw.comparison.candidates import Candidate, candidates
from thaw.comparison.finished_runs import Run, Trial, newest, trials
from thaw.evaluation.confusion import confused_pairs
from thaw.evaluation.statistics import LEVEL, Sweep, Test
from thaw.pages.limits import CONFUSIONS, KEPT_MATRIX
from thaw.runs.summary import TRACEBACK

SHOWN = 12  # images on which candidates disagree


def compare(runs: Sequence[Run], folder: Path) -> dict:
    """What `runs` say together; their folders are named as seen from `folder`.

    Runs that were validated on other images than most cannot be held against them and are left out by name.
    """
    finished = newest([run for run in runs if run.finished])
    same = _on_the_same_images(trials(finished))
    found, compared = candidates(same), [run for trial in same for run in trial.runs]
    sweep = Sweep({one.name: one.answers for one in found})
    tests = sweep.tests()
    classes = compared[0].summary["classes"] if compared else []
    entries = [_entry(one, sweep, tests, found[0], classes, folder) for one in found]
    for entry in entries:
        entry["pareto"] = not any(_beats(other, entry) for other in entries)
    facts = {
        "candidates": entries,
        "tests": [_test(test) for test in tests],
        "method": _method(tests),
        "level": LEVEL,
        "classes": classes,
        "images": found[0].answers.images if found else 0,
        "images_by_class": _images_by_class(found[0], classes) if found else {},
        "disagreements": _disagreements(found, [entry["verdict"] != "worse" for entry in entries]),
        "failures": [_failure(run, folder) for run in runs if run.summary.get("status") == "failed"],
        "unfinished": [_name(run, folder) for run in runs if run.summary.get("status") not in ("finished", "failed")],
        "left_out": [_name(run, folder) for run in finished if run not in compared],
        "data": {key: compared[0].summary.get(key) for key in ("data", "data_root", "fingerprint")} if compared else {},
        "machine": _several(compared, "device", "precision", "versions"),
    }
    return {"advice": advice(facts), "cautions": cautions(facts), **facts}


def _images_by_class(one: Candidate, classes: Sequence[str]) -> dict[str, int]:
    counts = Counter(label for _, label, _, _ in one.trials[0].predictions)
    return {name: counts[name] for name in classes}


def _on_the_same_images(tried: Sequence[Trial]) -> list[Trial]:
    if not tried:
        return []
    most = Counter(trial.images for trial in tried).most_common(1)[0][0]
    return [trial for trial in tried if trial.images == most]


def _entry(
    one: Candidate, sweep: Sweep, tests: Sequence[Test], best: Candidate, classes: Sequence[str], folder: Path
) -> dict:
    confusion = one.confusion(classes)
    images = confusion.sum(1)
    return {
        "name": one.name,
        "strategy": one.runs[0].summary["strategy"],
        "seeds": [trial.seed for trial in one.trials],
        "acc": one.answers.accuracy,
        "acc_ci95": sweep.interval(one.name),
        "acc_by_seed": one.answers.right.mean(1).tolist(),
        **_against(one, best, tests),
        **{key: one.mean("val", key) for key in ("macro_acc", "macro_f1", "ece", "loss")},
        "parameters": {key: int(one.mean("parameters", key)) for key in ("total", "trainable")},
        "seconds": one.median("seconds", "total"),
        "train_images_per_second": one.median("train_images_per_second"),
        "peak_memory_mb": max(run.summary["peak_memory_mb"] for run in one.runs),
        "acc_by_class": dict(zip(classes, (confusion.diagonal() / images.clip(1)).tolist(), strict=True)),
        "confusion": confusion.toarray().tolist() if len(classes) <= KEPT_MATRIX else None,
        "confused": confused_pairs(confusion, classes, CONFUSIONS),
        "curves": {key: _curve(one.runs, key) for key in ("train/loss", "train/acc", "val/loss", "val/acc")},
        "runs": [_run(run, folder) for run in one.runs],
    }


def _against(one: Candidate, best: Candidate, tests: Sequence[Test]) -> dict:
    """The verdict on a candidate, held against the most accurate one."""
    if one is best:
        return {"verdict": "best", "difference": 0.0, "p": None}
    test = next(test for test in tests if {test.a, test.b} == {one.name, best.name})
    verdict = "tied" if test.verdict == "tied" else "worse"
    return {"verdict": verdict, "difference": -abs(test.difference), "p": test.adjusted}


def _curve(runs: Sequence[Run], key: str) -> dict:
    """Of an epoch's values of all runs the mean, the lowest and the highest; a run that ended early is missing then."""
    longest = max(len(run.epochs) for run in runs)
    values = [[run.epochs[epoch][key] for run in runs if epoch < len(run.epochs)] for epoch in range(longest)]
    return {name: [float(of(each)) for each in values] for name, of in (("mean", np.mean), ("low", min), ("high", max))}


def _run(run: Run, folder: Path) -> dict:
    facts = {key: run.summary[key] for key in ("seed", "best_epoch", "epochs")}
    return {
        "folder": _name(run, folder),
        "command": run.command,
        "acc": run.accuracy,
        "seconds": run.summary["seconds"]["total"],
        **facts,
    }


def _failure(run: Run, folder: Path) -> dict:
    kept = run.folder / TRACEBACK
    return {
        "folder": _name(run, folder),
        "command": run.command,
        "error": run.summary.get("error", ""),
        "traceback": f"{_name(run, folder)}/{TRACEBACK}" if kept.is_file() else None,
    }


def _test(test: Test) -> dict:
    facts = ("a", "b", "difference", "interval", "p", "adjusted", "verdict", "method")
    return {name: getattr(test, name) for name in facts}


def _method(tests: Sequence[Test]) -> str | None:
    return tests[0].method if tests else None


def _beats(other: dict, entry: dict) -> bool:
    """Whether `other` is as good in accuracy and time and better in one of them."""
    pairs = (other["acc"], entry["acc"]), (-other["seconds"], -entry["seconds"])
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def _disagreements(found: Sequence[Candidate], good: Sequence[bool]) -> list[dict]:
    """The images whose share of right answers varies most between good candidates, then between all.

    On which of them a bad one fails says little.
    """
    if len(found) < 2:
        return []
    answers = np.array([one.answers.by_image for one in found])
    spreads = np.stack([answers[list(good)].var(0), answers.var(0)], axis=1).round(9)
    rows = found[0].trials[0].predictions
    differing = np.flatnonzero(spreads[:, 1])
    order = sorted(differing, key=lambda image: (*-spreads[image], rows[image][0]))[:SHOWN]
    return [
        {
            "path": rows[image][0],
            "label": rows[image][1],
            "answers": {one.name: dict(one.told[image].most_common()) for one in found},
        }
        for image in order
    ]


def _several(runs: Sequence[Run], *keys: str) -> dict:
    """What the runs say of `keys`, each different answer once."""
    told = {key: [run.summary.get(key) for run in runs] for key in keys}
    return {
        key: [value for place, value in enumerate(values) if value not in values[:place]]
        for key, values in told.items()
    }


def _name(run: Run, folder: Path) -> str:
    """Its folder as seen from where the page is kept, which may be beside it."""
    return Path(os.path.relpath(run.folder, folder)).as_posix()
