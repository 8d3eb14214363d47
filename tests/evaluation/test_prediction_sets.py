"""A prediction set has the true class as often as was asked for."""

import math

import numpy as np
import pytest
import torch

from thaw.evaluation.calibration import cross_fitted
from thaw.evaluation.prediction_sets import PredictionSets, class_scores, fitted_sets, threshold_covering
from thaw.evaluation.predictions import Predictions
from thaw.evaluation.predictions_table import read_predictions
from train import main

SPLITS, PENALTY, FREE = 200, 0.01, 5


def simulated(images, classes, certainty):
    """Return logits, whose softmax is the probability of each label, and labels drawn with these probabilities."""
    random = np.random.default_rng(classes)
    logits = (certainty * random.standard_normal((images, classes))).astype(np.float32)
    probabilities = torch.from_numpy(logits).double().softmax(1).numpy()
    return logits, (probabilities.cumsum(1) > random.random((images, 1))).argmax(1)


def coverages(logits, labels, coverage, exaggeration=1.0):
    """Return the coverage on one half of the images of sets that are fitted on the other half, for many halvings."""
    found, half, random = [], len(labels) // 2, np.random.default_rng(0)
    logits = (logits * exaggeration).astype(np.float32)
    for _ in range(SPLITS):
        order = random.permutation(len(labels))
        fit, test = order[:half], order[half:]
        sets = fitted_sets(Predictions((), labels[fit], logits[fit], range(logits.shape[1])))
        within = sets(torch.from_numpy(logits[test]), coverage).numpy()
        found.append(within[np.arange(len(test)), labels[test]].mean())
    return np.array(found)


def assert_covers(found, coverage, images):
    """The mean over halvings: within two binomial standard errors of the images of one half."""
    assert abs(found.mean() - coverage) <= 2 * math.sqrt(coverage * (1 - coverage) / images) + 1 / (images + 1)


@pytest.mark.parametrize(("classes", "certainty"), [(2, 1), (2, 9), (10, 2), (10, 12), (100, 3)])
@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_sets_cover_as_often_as_asked_whether_the_model_is_right_more_or_less_often(classes, certainty, coverage):
    logits, labels = simulated(1000, classes, certainty)
    assert_covers(coverages(logits, labels, coverage), coverage, 500)


def test_sets_cover_as_often_as_asked_for_logits_that_are_exaggerated():
    assert_covers(coverages(*simulated(1000, 10, 2), 0.9, exaggeration=4), 0.9, 500)


@pytest.mark.slow
@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.97])
def test_sets_cover_as_often_as_asked_for_the_logits_of_photographs(configure, photographs, tmp_path, coverage):
    pytest.importorskip("timm", reason="timm is not installed: pip install -e '.[timm]'")
    options = ("data=image_folder", f"data.root={photographs}", "model=efficientnet_lite0", "weights=imagenet")
    main(configure(*options, "trainer.accelerator=cpu", folder="run"))
    said = list(read_predictions(tmp_path / "run" / "predictions.csv"))
    likely = np.array([confidence for *_, confidence in said])
    right = np.array([label == predicted for _, label, predicted, _ in said])
    logits = np.stack([np.log(likely), np.log((1 - likely).clip(1e-6))], 1).astype(np.float32)  # predicted class first
    assert_covers(coverages(logits, 1 - right.astype(int), coverage), coverage, len(right) // 2)


def test_scores_are_those_of_a_loop_over_images_and_ranks():
    logits = torch.from_numpy(simulated(50, 9, 3)[0])
    for found, row in zip(class_scores(logits), logits.double().softmax(1), strict=True):
        before = 0.0
        for rank, place in enumerate(row.argsort(descending=True).tolist(), start=1):
            expected = before + PENALTY * max(0, rank - FREE) if rank > 1 else math.log(1 - row[place])
            assert found[place].item() == pytest.approx(expected, abs=1e-9)
            before += row[place].item()


def test_sets_grow_with_coverage_and_never_leave_out_a_more_probable_class():
    logits, labels = simulated(300, 10, 2)
    sets, before = fitted_sets(Predictions((), labels, logits, range(10))), torch.zeros(300, 10, dtype=torch.bool)
    for coverage in (0.0, 0.1, 0.5, 0.8, 0.9, 0.99, 0.9999):
        within = sets(torch.from_numpy(logits), coverage)
        assert not (before & ~within).any()
        ranked = within.gather(1, torch.from_numpy(logits).argsort(descending=True))
        assert not (ranked[:, 1:] & ~ranked[:, :-1]).any()
        before = within


def test_too_few_images_for_a_coverage_put_every_class_into_the_set():
    assert threshold_covering(torch.arange(18.0), 0.95) == math.inf
    assert threshold_covering(torch.arange(19.0), 0.95) == 18
    assert PredictionSets(torch.zeros(8))(torch.randn(3, 4), 0.9).all()


def test_sets_are_fitted_with_the_temperature_of_each_image():
    logits, labels = simulated(100, 3, 2)
    temperatures = cross_fitted(logits, labels)
    found = fitted_sets(Predictions((), labels, logits, range(3), temperatures)).scores
    divided = torch.from_numpy(logits) / torch.from_numpy(temperatures)[:, None]
    rows = [class_scores(row[None])[0, label] for row, label in zip(divided, labels, strict=True)]
    assert torch.allclose(found, torch.stack(rows), atol=1e-6)
