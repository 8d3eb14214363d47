"""Numbers with intervals, held against others that are worked out one image at a time."""

import numpy as np
import pytest
from evaluated import by_hand

from thaw.evaluation.confusion import confused_pairs
from thaw.evaluation.measures import (
    MEASURES,
    RESAMPLES,
    bootstrap,
    metrics,
    overall,
    per_class,
    reliability,
    wilson,
)
from thaw.evaluation.predictions import Predictions


def predictions_of(n=60, classes=4, absent=None):
    random = np.random.default_rng(3)
    labels = random.integers(classes, size=n)
    labels[labels == absent] = 0
    logits = random.normal(size=(n, classes)).astype(np.float32) + 1.5 * np.eye(classes, dtype=np.float32)[labels]
    return Predictions((), labels, logits, "abcd"[:classes], 1.7)


@pytest.mark.parametrize("absent", [None, 2])
def test_measures_equal_those_worked_out_by_hand(absent):
    given = predictions_of(absent=absent)
    values = [one["value"] for one in overall(given).values()]
    assert values == pytest.approx(by_hand(given.labels, given.logits, 1.7))


def test_intervals_are_percentiles_of_the_measures_of_drawn_images():
    given = predictions_of(n=40)
    drawn = np.random.default_rng(0).integers(40, size=(RESAMPLES, 40))
    measured = [by_hand(given.labels[one], given.logits[one], 1.7) for one in drawn]
    expected = np.percentile(measured, [2.5, 97.5], axis=0).T
    found = overall(given)
    intervals = [one["ci95"] for one in found.values()]
    assert intervals[:3] == pytest.approx(expected[:3])
    for name, (low, high), draws, usual in zip(
        MEASURES[3:], intervals[3:], np.transpose(measured)[3:], expected[3:], strict=True
    ):
        bias = draws.mean() - found[name]["value"]
        assert bias > 0
        assert low in (0, pytest.approx(usual[0] - bias)) and high == pytest.approx(usual[1] - bias)


def two_sure_classes(random, confidences, right, n):
    """Answers with these confidences, equally frequent, of which these shares are right: the true ECE is known."""
    kind = random.integers(len(confidences), size=n)
    odds = np.log(np.array(confidences) / (1 - np.array(confidences)))[kind]
    labels = (random.random(n) >= np.array(right)[kind]).astype(int)
    return Predictions((), labels, np.stack([odds, np.zeros(n)], 1), "ab")


@pytest.mark.parametrize(("right", "truth"), [((0.7, 0.9), 0.0), ((0.6, 0.7), 0.15)])
def test_the_interval_of_the_calibration_error_holds_the_value_and_mostly_the_truth(right, truth, monkeypatch):
    monkeypatch.setattr("thaw.evaluation.measures.RESAMPLES", 200)
    random, held, trials = np.random.default_rng(1), 0, 40
    for _ in range(trials):
        found = overall(two_sure_classes(random, (0.7, 0.9), right, 80))["ece"]
        low, high = found["ci95"]
        assert low <= found["value"] <= high
        held += low <= truth <= high
    assert held >= 0.85 * trials


def test_the_interval_of_a_mean_is_as_wide_as_theory_says():
    values = np.random.default_rng(5).normal(size=900)
    (value,), ((low, high),) = bootstrap(lambda weights: weights @ values[:, None] / 900, 900)
    assert value == pytest.approx(values.mean())
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 30, rel=0.08)


def test_draws_are_made_a_few_at_a_time_where_images_are_many(monkeypatch):
    given = predictions_of()
    before = overall(given)
    monkeypatch.setattr("thaw.evaluation.measures._AT_ONCE", 7 * 60)
    assert [one["ci95"] for one in overall(given).values()] == [pytest.approx(one["ci95"]) for one in before.values()]


def test_a_row_per_class_is_empty_where_there_is_no_image():
    confusion = np.array([[3, 1, 1], [0, 0, 0], [0, 0, 4]])
    first, second, third = per_class(confusion, ["x", "y", "z"])
    assert first["recall"] == {"value": 3 / 5, "ci95": wilson(3, 5)}
    assert first["precision"]["value"] == 1 and first["f1"] == pytest.approx(2 * 0.6 / 1.6)
    assert second == {"class": "y", "n": 0, "predicted": 1, "recall": None, "precision": None, "f1": None}
    assert third["precision"] == {"value": 4 / 5, "ci95": wilson(4, 5)}


def test_pairs_are_listed_by_count_and_then_by_share():
    pairs = confused_pairs(np.array([[5, 2, 0], [2, 0, 1], [0, 3, 9]]), ["x", "y", "z"], most=3)
    assert [(p["label"], p["predicted"], p["count"]) for p in pairs] == [("z", "y", 3), ("y", "x", 2), ("x", "y", 2)]
    assert pairs[0]["share"] == 3 / 12


def test_bins_of_confidence_hold_every_image_once_and_make_up_the_calibration_error():
    given = predictions_of()
    bins = reliability(given)
    assert sum(row["n"] for row in bins) == 60
    gaps = [row["n"] * abs(row["confidence"] - row["right"]["value"]) for row in bins]
    assert sum(gaps) / 60 == pytest.approx(metrics(given)["ece"])
    assert all(row["bin"][0] <= row["confidence"] < row["bin"][1] for row in bins)
