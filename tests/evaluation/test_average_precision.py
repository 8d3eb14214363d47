"""Average precision and F1 are scikit-learn's; their intervals and paired tests are right on random images."""

import numpy as np
import pytest

from thaw.evaluation.average_precision import average_precision, influence
from thaw.evaluation.label_calibration import fitted, held_out
from thaw.evaluation.label_measures import label_metrics, per_label
from thaw.evaluation.label_predictions import LabelPredictions
from thaw.evaluation.statistics import Correctness, PairedTests

SWEEPS = 300


def drawn(random, images=300, classes=4, rate=0.2, ties=False):
    labels = random.random((images, classes)) < rate
    scores = 1.5 * labels + random.normal(size=labels.shape)
    return labels, scores.round() if ties else scores


@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_is_that_of_scikit_learn(ties):
    metrics = pytest.importorskip("sklearn.metrics", reason="needs scikit-learn")
    labels, scores = drawn(np.random.default_rng(0), ties=ties)
    expected = [metrics.average_precision_score(labels[:, k], scores[:, k]) for k in range(4)]
    assert average_precision(labels, scores) == pytest.approx(expected, abs=1e-12)


def test_f1_scores_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics", reason="needs scikit-learn")
    given = LabelPredictions([], *drawn(np.random.default_rng(1)), list("abcd"), 1.0, np.array([0.3, 0.5, 0.6, 0.7]))
    found, labels, predicted = label_metrics(given), given.labels, given.predicted
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(labels, predicted, average="macro"), abs=1e-9)
    assert found["micro_f1"] == pytest.approx(metrics.f1_score(labels, predicted, average="micro"), abs=1e-9)
    by_class = metrics.f1_score(labels, predicted, average=None)
    assert [row["f1"]["value"] for row in per_label(given)] == pytest.approx(by_class, abs=1e-9)
    assert found["map"] == pytest.approx(
        metrics.average_precision_score(labels, given.logits, average="macro"), abs=1e-9
    )


def test_a_class_that_no_image_has_counts_for_no_average():
    labels, scores = drawn(np.random.default_rng(2))
    labels[:, 1] = False
    given = LabelPredictions([], labels, scores, list("abcd"))
    others = LabelPredictions([], labels[:, [0, 2, 3]], scores[:, [0, 2, 3]], list("acd"))
    assert np.isnan(average_precision(labels, scores)[1])
    for key in ("map", "map_ci95", "macro_f1", "macro_f1_ci95"):
        assert label_metrics(given)[key] == pytest.approx(label_metrics(others)[key])
    assert per_label(given)[1]["ap"] is None


def weighted(labels, scores, weights):
    """Mean average precision, written down for images with weights."""
    values = []
    for own, ranked in zip(labels.T, scores.T, strict=True):
        total = 0.0
        for place in np.flatnonzero(own):
            above = ranked >= ranked[place]
            total += weights[place] * (weights * own)[above].sum() / weights[above].sum()
        values.append(total / weights[own].sum())
    return np.mean(values)


@pytest.mark.parametrize("ties", [False, True])
def test_the_influence_of_an_image_is_the_derivative_by_its_weight(ties):
    labels, scores = drawn(np.random.default_rng(3), images=40, classes=3, rate=0.3, ties=ties)
    units, step = influence(labels, scores), 1e-6
    assert units.mean() == pytest.approx(average_precision(labels, scores).mean(), abs=1e-12)
    for image in range(0, 40, 7):
        change = np.eye(40)[image] * step
        slope = (weighted(labels, scores, 1 + change) - weighted(labels, scores, 1 - change)) / (2 * step)
        assert units[image] - units.mean() == pytest.approx(40 * slope, abs=1e-5)


def equal_candidates(random, images, seeds):
    labels = random.random((images, 4)) < 0.2
    hard, own = random.normal(size=labels.shape), 0.7 * random.normal(size=(2, *labels.shape))
    seeded = 0.5 * random.normal(size=(2, seeds, *labels.shape))
    return labels, 1.3 * labels + hard + own[:, None] + seeded


@pytest.mark.parametrize("seeds", [1, 3])
def test_equal_candidates_are_called_different_in_5_of_100_sweeps(seeds):
    random, called, covered = np.random.default_rng(seeds), 0, 0
    labels, scores = equal_candidates(random, 100_000, 1)
    truth = average_precision(labels, scores[0, 0]).mean()
    for _ in range(SWEEPS):
        labels, scores = equal_candidates(random, 300, seeds)
        units = [np.array([influence(labels, one) for one in candidate]) for candidate in scores]
        paired = PairedTests({str(n): Correctness(one) for n, one in enumerate(units)})
        called += paired.results()[0].verdict != "tied"
        low, high = paired.interval("0")
        covered += low <= truth <= high
    assert called / SWEEPS <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / SWEEPS)
    assert covered / SWEEPS >= 0.9


def test_temperatures_and_thresholds_undo_a_scale_of_each_class():
    random = np.random.default_rng(4)
    logits = random.normal(size=(4000, 3)) * 2
    labels = random.random(logits.shape) < 1 / (1 + np.exp(-logits))
    scales = np.array([0.5, 2.0, 4.0])
    given = LabelPredictions([], labels, (logits * scales).astype(np.float32), list("abc"))
    temperatures, thresholds = fitted(given)
    assert temperatures == pytest.approx(scales, rel=0.1)
    decided = given.calibrated(temperatures, thresholds)
    assert label_metrics(decided)["ece"] < 0.02 < label_metrics(given)["ece"]
    for place in range(3):  # no other threshold gives a higher F1
        best = [row["f1"]["value"] for row in per_label(decided)][place]
        for other in np.linspace(0.1, 0.9, 9):
            assert per_label(decided.calibrated(temperatures, np.full(3, other)))[place]["f1"]["value"] <= best + 1e-12


def test_held_out_thresholds_do_not_flatter_chance():
    random, gains = np.random.default_rng(5), []
    for _ in range(20):
        labels = random.random((60, 2)) < 0.3
        given = LabelPredictions([], labels, random.normal(size=labels.shape).astype(np.float32), list("ab"))
        inside = label_metrics(given.calibrated(*fitted(given)))["macro_f1"]
        gains.append(inside - label_metrics(held_out(given))["macro_f1"])
    assert min(gains) >= -0.05 and np.mean(gains) > 0.02


def test_a_rare_class_uses_the_values_of_all_classes_together():
    random = np.random.default_rng(6)
    labels, scores = drawn(random, images=400)
    labels[5:, 0] = False
    temperatures, thresholds = fitted(LabelPredictions([], labels, scores.astype(np.float32), list("abcd")))
    assert np.isfinite(temperatures).all() and (thresholds > 0).all()
    without = LabelPredictions([], np.delete(labels, 0, 1), np.delete(scores, 0, 1).astype(np.float32), list("bcd"))
    assert temperatures[1:] == pytest.approx(fitted(without)[0])
