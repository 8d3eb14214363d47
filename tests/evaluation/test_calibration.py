"""The temperature says how far confidence can be believed, and changes no class."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from thaw.evaluation import calibration
from thaw.evaluation.measures import calibration as calibration_facts
from thaw.evaluation.predictions import Predictions
from train import main


def simulated(seed: int, count: int, exaggeration: float, classes: int = 3):
    """Logits that would be right about their own chances, had they not been multiplied; and the labels."""
    random = torch.Generator().manual_seed(seed)
    honest = 1.5 * torch.randn(count, classes, generator=random)
    labels = torch.multinomial(honest.softmax(1), 1, generator=random)[:, 0]
    return exaggeration * honest, labels


def fitted_temperature(logits, labels):
    return calibration.fitted_temperature(logits.numpy(), labels.numpy())


def cross_fitted(logits, labels):
    return torch.from_numpy(calibration.cross_fitted(logits.numpy(), labels.numpy()))


def ece(logits, labels):
    """By hand: 15 bins of equal width."""
    confidence, predicted = logits.softmax(1).max(1)
    right, bins = (predicted == labels).double(), (confidence * 15).ceil().long() - 1
    gaps = [(right[bins == b].sum() - confidence[bins == b].sum()).abs() for b in range(15)]
    return float(sum(gaps) / len(labels))


def test_it_lowers_the_error_of_20_of_20_over_confident_models_on_held_out_data():
    for seed in range(20):
        exaggeration = np.random.default_rng(seed).uniform(1.5, 5)
        fitted = fitted_temperature(*simulated(seed, 1000, exaggeration))
        logits, labels = simulated(100 + seed, 2000, exaggeration)
        assert fitted == pytest.approx(exaggeration, rel=0.2)
        assert ece(logits / fitted, labels) < ece(logits, labels)
        assert (logits / fitted).argmax(1).equal(logits.argmax(1))


def test_it_is_where_the_loss_is_lowest():
    logits, labels = simulated(0, 4000, 2.5)
    fitted = fitted_temperature(logits, labels)
    losses = {t: F.cross_entropy(logits.double() / t, labels).item() for t in (0.98 * fitted, fitted, 1.02 * fitted)}
    assert min(losses, key=losses.get) == fitted


def test_without_a_mistake_it_stays_finite():
    labels = torch.arange(40) % 2
    logits = 3.0 * F.one_hot(labels).float()
    temperature = fitted_temperature(logits, labels)
    confidence = (logits / temperature).softmax(1).max(1).values
    assert 0.98 < confidence.min() < 1, "of 40 images one more could be wrong"


@pytest.mark.parametrize("exaggeration", [0.1, 1, 1000])
def test_of_a_net_that_knows_nothing_classes_stay_apart(exaggeration):
    logits, _ = simulated(0, 500, exaggeration)
    labels = torch.randint(0, 3, (500,), generator=torch.Generator().manual_seed(1))
    divided = logits / fitted_temperature(logits, labels)
    confidence = divided.softmax(1).max(1).values
    assert 1 / 3 < confidence.mean() < 0.4
    assert divided.softmax(1).argmax(1).equal(logits.argmax(1))


def test_no_image_has_a_part_in_its_own_temperature():
    logits, labels = simulated(0, 50, 4)
    before = cross_fitted(logits, labels)
    for index in (0, 17):
        other = labels.clone()
        other[index] = (other[index] + 1) % 3
        assert cross_fitted(logits, other)[index].equal(before[index])
        assert not cross_fitted(logits, other).equal(before)


def test_a_run_tells_its_temperature_and_keeps_it_with_the_best_weights(tiny_run, tmp_path):
    main(tiny_run("strategy.lr=0.1"))
    told = json.loads((tmp_path / "run/summary.json").read_text())["calibration"]
    kept = torch.load(tmp_path / "run/checkpoints/best.ckpt", weights_only=True)["thaw"]
    assert kept["temperature"] == told["temperature"] > 0
    assert [len(told[name]) for name in ("ece", "loss")] == [2, 2]


def test_error_before_and_after_are_of_the_same_images():
    logits, labels = simulated(1, 500, 4)
    found = Predictions(["x"] * 500, labels.numpy(), logits.numpy(), ["a", "b", "c"])
    told = calibration_facts(found, calibration.held_out(found))
    assert told["ece"][0] == pytest.approx(ece(logits, labels), abs=1e-6)
    assert told["ece"][1] == pytest.approx(ece(logits / cross_fitted(logits, labels)[:, None], labels), abs=1e-6)
    assert told["ece"][1] < told["ece"][0]


@pytest.mark.slow
def test_a_disk_without_room_for_it_costs_the_temperature_alone(tiny_run, tmp_path, monkeypatch, caplog):
    def full(*given, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("thaw.report.results.describe_checkpoint", full)
    main(tiny_run())
    assert json.loads((tmp_path / "run/summary.json").read_text())["status"] == "finished"
    assert "predictions from this file stay uncalibrated" in caplog.text
