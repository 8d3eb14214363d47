"""Overrides for a run of three phases, and the results that must be equal after a resumed run."""

import torch
from conftest import rows

STRATEGY = [
    "strategy.phases=[{train: head, epochs: 2}, {train: layer1, epochs: 2, lr: 0.05}, {train: all, lr_decay: 0.5}]",
    "strategy.lr=0.1",
]


def epochs(folder):
    return [{**row, "seconds": ""} for row in rows(folder / "metrics.csv")]


def tensors(folder, name):
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]
