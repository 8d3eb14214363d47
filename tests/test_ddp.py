"""Several processes train what one does."""

import json

import pytest
import torch
from conftest import rows
from test_command_line import train

NET = ["model._target_=nets.normless_net", "model.name=resnet18", "weights=none", "trainer.precision=32-true"]
RUN = ["data=image_folder", "data.image_size=24", "data.batch_size=6", "strategy=gradual", "trainer.max_epochs=6"]
RUN += ["features.views=1"]  # each process reads the features that one of them wrote


@pytest.mark.slow
def test_two_processes_hold_identical_weights_after_every_phase_and_those_of_one(tmp_path, image_folder):
    def run(name, *overrides):
        states = f"+callbacks.states={{_target_: nets.PhaseStates, folder: {tmp_path / name}-states}}"
        done = train(*NET, *RUN, f"data.root={root}", states, f"hydra.run.dir={name}", *overrides, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done

    def state(name, phase, rank):
        return torch.load(tmp_path / f"{name}-states" / f"{phase}-{rank}.pt", weights_only=True)

    root = image_folder(("ants", "bees", "cows"), train=9)  # the last batch has three images, two and one
    one = run("one", "trainer.accelerator=cpu")
    two = run("two", "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    assert len(one.stdout.splitlines()) == len(two.stdout.splitlines()), "the second process says nothing"
    for phase in range(1, 6):
        alone, first, second = state("one", phase, 0), state("two", phase, 0), state("two", phase, 1)
        for key, tensor in alone.items():
            assert first[key].equal(second[key]), (phase, key)
            assert torch.allclose(first[key], tensor, atol=1e-5), (phase, key)
    first, second = (json.loads((tmp_path / name / "summary.json").read_text())["val"] for name in ("one", "two"))
    assert (first["loss"], first["n"]) == (pytest.approx(second["loss"], abs=1e-5), second["n"])
    tables = [rows(tmp_path / name / "metrics.csv") for name in ("one", "two")]
    for alone, together in zip(*tables, strict=True):
        for column in alone.keys() - {"seconds"}:
            assert float(alone[column]) == pytest.approx(float(together[column]), abs=1e-5), column
