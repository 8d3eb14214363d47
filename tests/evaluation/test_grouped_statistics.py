"""Groups of images that agree count as one image: the tests keep their level, which they lose without groups."""

import numpy as np
import pytest

from thaw.evaluation.statistics import GROUPED, Correctness, PairedTests

SWEEPS = 1000


def results(answers, groups=None):
    return PairedTests({str(n): Correctness(right, groups) for n, right in enumerate(answers)})


def drawn(random, groups, seeds):
    """Two equally good candidates whose images of one group are all right or all wrong."""
    sizes = random.integers(1, 10, groups)
    hard = random.standard_normal(groups) + 1
    own = random.standard_normal((2, groups))
    right = [random.random((seeds, groups)) < 1 / (1 + np.exp(-hard - each)) for each in own]
    return [one.repeat(sizes, axis=1) for one in right], np.arange(groups).repeat(sizes)


@pytest.mark.parametrize("seeds", [1, 3])
def test_equal_candidates_are_called_different_in_5_of_100_sweeps_with_groups_and_more_often_without(seeds):
    random, called = np.random.default_rng(seeds), np.zeros(2)
    for _ in range(SWEEPS):
        right, groups = drawn(random, 80, seeds)
        called += [results(right, known).results()[0].verdict != "tied" for known in (groups, None)]
    with_groups, without = called / SWEEPS
    assert with_groups <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / SWEEPS)
    assert without > max(0.06, with_groups)


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_interval_of_an_accuracy_contains_the_truth_with_groups(seeds):
    random, hits = np.random.default_rng(seeds), 0
    for _ in range(SWEEPS):
        sizes = random.integers(1, 10, 60)
        right = (random.random((1, 60)) < 0.7).repeat(seeds, axis=0).repeat(sizes, axis=1)
        low, high = results([right], np.arange(60).repeat(sizes)).interval("0")
        hits += low <= 0.7 <= high
    assert 0.93 <= hits / SWEEPS <= 0.98


@pytest.mark.parametrize("seeds", [2, 4])
def test_copies_of_images_in_groups_change_nothing(seeds):
    random = np.random.default_rng(0)
    right = random.random((3, seeds, 50)) < random.uniform(0.3, 1, 50)
    one, copied = results(right, np.arange(50)), results(right.repeat(7, axis=2), np.arange(50).repeat(7))
    for before, now in zip(one.results(), copied.results(), strict=True):
        assert (now.p, now.difference, now.method) == (
            pytest.approx(before.p),
            pytest.approx(before.difference),
            GROUPED,
        )
        assert now.interval == pytest.approx(before.interval)
    assert copied.interval("0") == pytest.approx(one.interval("0"))


def test_groups_of_one_image_are_images():
    random = np.random.default_rng(0)
    right = random.random((2, 3, 400)) < random.uniform(0.3, 1, 400)
    (grouped,), (images,) = results(right, np.arange(400)).results(), results(right).results()
    assert grouped.p == pytest.approx(images.p, rel=0.02)
    assert grouped.difference == pytest.approx(images.difference)
    assert results(right, np.arange(400)).interval("0") == pytest.approx(results(right).interval("0"), rel=0.01)


def test_the_mean_of_units_is_the_accuracy_of_each_seed():
    right, groups = drawn(np.random.default_rng(0), 30, 4)
    one = Correctness(right[0], groups)
    assert one.units.mean(1) == pytest.approx(right[0].mean(1))
    assert (one.count, one.images) == (30, len(groups))


def test_a_few_groups_that_are_equal_by_chance_prove_nothing():
    right = np.zeros((2, 1, 24), bool)
    right[0, 0, ::6] = right[1, 0, ::3] = True  # one and two of six images in each of four groups
    paired = results(right, np.arange(24) // 6)
    assert paired.results()[0].p > 0.05
    low, high = paired.interval("0")
    assert high - low > 0.2
