"""AUROC is the share of pairs in the right order, and its interval is as wide as its error."""

import numpy as np
import pytest
from scipy.stats import norm

from thaw.evaluation.auroc import auroc


def test_it_is_the_share_of_pairs_in_the_right_order_and_ties_count_half():
    random = np.random.default_rng(0)
    low, high = random.integers(0, 9, 40), random.integers(3, 12, 30)
    pairs = [(b > a) + 0.5 * (b == a) for b in high for a in low]
    assert auroc(low, high)["value"] == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_the_interval_contains_the_truth_in_about_95_of_100_samples(shift):
    random, hits = np.random.default_rng(0), 0
    truth = norm.cdf(shift / np.sqrt(2))
    for _ in range(1500):
        low, high = auroc(random.standard_normal(60), random.standard_normal(50) + shift)["ci95"]
        hits += low <= truth <= high
    assert 0.93 <= hits / 1500 <= 0.97


def test_a_perfect_separation_has_an_interval_below_1():
    found = auroc(np.arange(20), np.arange(30) + 50)
    assert found["value"] == found["ci95"][1] == 1
    assert 0.8 < found["ci95"][0] < 0.9
