"""Write folders like those of finished runs, with predictions that the test chooses."""

import csv
import json
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

CLASSES = ["ant", "bee"]


def write_run(
    folder: Path, right, strategy="bias", seed=0, overrides=None, labels=None, seconds=10.0, root="", fold=None,
    numbers=None, classes=CLASSES, column="p_{}", **changes,
):  # fmt: skip
    """Write the folder of a finished run of two epochs; its predictions are correct where `right` is True.

    `numbers` are the image numbers, for a run of one fold. `column` is the format of the names of class columns.
    `changes` overwrite entries of the summary.
    """
    right = np.asarray(right, bool)
    numbers = np.arange(len(right)) if numbers is None else numbers
    labels = numbers % len(classes) if labels is None else labels
    overrides = [f"strategy={strategy}", f"seed={seed}"] if overrides is None else overrides
    overrides += [] if fold is None else [f"data.fold={fold}"]
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text(json.dumps(overrides))
    values = {
        "seed": seed,
        "data": {"seed": seed, "root": str(root), "fold": fold or 0},
        "overrides": [o for o in overrides if "seed" not in o and "data.fold=" not in o],
    }
    (folder / ".hydra" / "resolved.yaml").write_text(OmegaConf.to_yaml(values))
    with (folder / "predictions.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "predicted", "confidence", *map(column.format, classes)])
        for number, label, ok in zip(numbers, labels, right, strict=True):
            names = classes[label], classes[label if ok else (label + 1) % len(classes)]
            rest = 0.1 / max(1, len(classes) - 1)
            rows.writerow(
                [f"val/{names[0]}/{number}.png", *names, 0.9, *(0.9 if c == names[1] else rest for c in classes)]
            )
    acc = float(right.mean())
    table = "epoch,phase,lr,train/loss,train/acc,val/loss,val/acc,val/macro_acc,seconds\n1,1,0.1,1,0.5,1,0.5,0.5,1\n"
    (folder / "metrics.csv").write_text(f"{table}2,1,0.1,0.5,0.9,0.6,{acc},{acc},1\n")
    summary = {
        "status": "finished", "strategy": strategy, "seed": seed,
        "data": "image_folder", "model": "tiny", "weights": "none",
        "classes": list(classes), "data_root": str(root), "fingerprint": {"train": "a" * 64, "val": "b" * 64},
        "epochs": 2, "best_epoch": 2,
        "val": {"acc": acc, "acc_ci95": [0, 1], "macro_acc": acc, "macro_f1": acc, "loss": 0.6, "ece": 0.05, "n": 3},
        "parameters": {"total": 1000, "trainable": 100},
        "seconds": {"total": seconds, "features": 0.0, "training": seconds / 2, "validation": seconds / 2},
        "train_images_per_second": 100.0, "peak_memory_mb": 500.0, "frozen_unchanged": True,
        "device": "cpu", "precision": "32-true", "versions": {"python": "3.11", "thaw": "0.1"},
    }  # fmt: skip
    (folder / "summary.json").write_text(json.dumps({**summary, **changes}))
    return folder


def simulated(rng, candidates, seeds=3, images=300, accuracy=0.9, image=2.0, own=0.7, seed=0.2):
    """Return random correctness, bool (candidates, seeds, images).

    Its log-odds are the sum of random effects with the standard deviations `image`, `own` (candidate and image) and
    `seed`. `accuracy` is the expected accuracy over all possible seeds and images.
    """
    total = np.sqrt(image**2 + own**2 + seed**2)
    odds = (
        _log_odds(accuracy, total)
        + rng.normal(0, image, images)
        + rng.normal(0, own, (candidates, 1, images))
        + rng.normal(0, seed, (candidates, seeds, 1))
    )
    return rng.random((candidates, seeds, images)) < 1 / (1 + np.exp(-odds))


def _log_odds(accuracy, deviation):
    """Return by bisection the mean of normal log-odds, with this standard deviation, that gives the mean `accuracy`."""
    places, weights = np.polynomial.hermite_e.hermegauss(60)
    low, high = -30.0, 30.0
    for _ in range(60):
        middle = (low + high) / 2
        mean = (weights / (1 + np.exp(-(middle + deviation * places)))).sum() / weights.sum()
        low, high = (middle, high) if mean < accuracy else (low, middle)
    return middle
