import numpy as np
import pytest
from scipy.stats import t as student
from written_runs import simulated

from thaw.evaluation.measures import wilson
from thaw.evaluation.statistics import MCNEMAR, Correctness, PairedTests, holm, mcnemar


def sweep(answers):
    return PairedTests({str(number): Correctness(each) for number, each in enumerate(answers)})


def test_mcnemar_is_the_exact_one():
    """Ten images that only b has right, two that only a has: p = 2 (1 + 12 + 66) / 2^12."""
    a = np.array([1] * 2 + [0] * 10 + [1] * 30)
    b = np.array([0] * 2 + [1] * 10 + [1] * 30)
    assert mcnemar(a, b) == pytest.approx(2 * 79 / 4096)
    assert mcnemar(a, a) == 1


def test_holm_worked_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([]) == []


def test_one_seed_has_wilsons_interval_and_mcnemars_test():
    right = np.random.default_rng(0).random((2, 1, 263)) < 0.7
    one = sweep(right)
    assert one.interval("0") == pytest.approx(wilson(int(right[0].sum()), 263))
    (test,) = one.results()
    assert (test.p, test.method) == (mcnemar(right[0, 0], right[1, 0]), MCNEMAR)


def test_the_variance_of_a_mean_is_that_of_a_crossed_analysis_of_variance():
    """(MS seeds + MS images - MS rest) / (seeds * images), from the sums of squares of the two-way table."""
    right = simulated(np.random.default_rng(1), 1, seeds=4, images=50, seed=1.0)[0].astype(float)
    seeds, images = right.shape
    rows, columns = right.mean(1), right.mean(0)
    ms_seeds = images * ((rows - right.mean()) ** 2).sum() / (seeds - 1)
    ms_images = seeds * ((columns - right.mean()) ** 2).sum() / (images - 1)
    everything = ((right - right.mean()) ** 2).sum()
    ms_rest = everything - ms_seeds * (seeds - 1) - ms_images * (images - 1)
    ms_rest /= (seeds - 1) * (images - 1)
    expected = (ms_seeds + ms_images - ms_rest) / (seeds * images)
    freedom = (seeds - 1) * (expected / (ms_seeds / (seeds * images))) ** 2

    low, high = sweep([right]).interval("0")
    worth = right.mean() * (1 - right.mean()) * images / (images - 1) / expected  # so many images
    z2 = student.ppf(0.975, freedom) ** 2
    root = np.sqrt(z2 * right.mean() * (1 - right.mean()) / worth + z2**2 / (4 * worth**2))
    assert high - low == pytest.approx(2 * root / (1 + z2 / worth))


def test_seeds_of_equal_accuracy_that_agree_on_no_image_have_an_interval():
    right = np.zeros((2, 600), bool)
    right[0, :6] = right[1, 6:12] = True
    low, high = sweep([right]).interval("0")
    assert [low, high] == pytest.approx(wilson(12, 1200), abs=1e-3), "as of 1200 images"


def test_the_same_answers_under_two_names_are_tied():
    right = simulated(np.random.default_rng(2), 1)[0]
    (test,) = sweep([right, right]).results()
    assert (test.verdict, test.difference) == ("tied", 0)
    assert test.adjusted == pytest.approx(1)
    (test,) = sweep([right[:1], right[:1]]).results()
    assert test.verdict == "tied"


def test_chance_is_worse_than_what_has_learned():
    rng = np.random.default_rng(3)
    good, shuffled = simulated(rng, 1)[0], rng.random((3, 300)) < 0.5
    (test,) = sweep([shuffled, good]).results()
    assert test.verdict == "worse"
    assert test.p < 1e-6


def test_all_right_is_no_proof_of_perfection():
    low, high = sweep([np.ones((3, 100))]).interval("0")
    assert low == pytest.approx(wilson(100, 100)[0], abs=0.01)
    assert high == 1


def test_more_seeds_are_not_more_images():
    """Runs that give equal answers are worth one: counting each anew would halve the interval."""
    right = simulated(np.random.default_rng(4), 1, seeds=1)[0]
    assert sweep([right]).interval("0") == pytest.approx(sweep([right.repeat(4, 0)]).interval("0"), abs=1e-9)


REGIMES = [
    {"accuracy": 0.9, "seed": 0.1},
    {"accuracy": 0.97, "seed": 0.3, "images": 400},
    {"accuracy": 0.7, "seed": 0.4, "images": 150, "seeds": 5},
]


@pytest.mark.slow
@pytest.mark.parametrize("regime", REGIMES)
def test_of_equal_candidates_few_sweeps_call_any_different_and_intervals_cover_the_truth(regime):
    """2,000 sweeps of three equal candidates."""
    rng, different, covered = np.random.default_rng(5), 0, 0
    for _ in range(2000):
        one = sweep(simulated(rng, 3, **regime))
        different += any(test.verdict != "tied" for test in one.results())
        low, high = one.interval("0")
        covered += low <= regime["accuracy"] <= high
    assert different / 2000 <= 0.05
    assert 0.93 <= covered / 2000 <= 0.97
