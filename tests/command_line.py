"""Run `python train.py` in a new process that can import the nets and callbacks of the tests."""

import os
import subprocess
import sys

from conftest import ROOT, environment

TRAIN = [sys.executable, str(ROOT / "train.py")]
TINY = ["model._target_=nets.tiny_net", "weights=none", "data=image_folder", "data.image_size=16", "data.batch_size=5"]


def with_nets(**changes):
    return environment(PYTHONPATH=f"{ROOT / 'tests'}{os.pathsep}{ROOT / 'src'}", **changes)


def train(*overrides, cwd, **changes):
    return subprocess.run([*TRAIN, *overrides], cwd=cwd, env=with_nets(**changes), capture_output=True, text=True)
