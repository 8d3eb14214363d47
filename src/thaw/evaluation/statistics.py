"""Test differences in accuracy between candidates (configurations). Seeds and images are treated as random samples.

Every seed classifies every image, just as every reader judges every case in a diagnostic study. The variance of a mean
accuracy is estimated as in these studies (Obuchowski and Rockette 1995; degrees of freedom by Hillis 2007): the
variance between seeds plus the remaining variance between images. Three seeds are too few to estimate the variance
between seeds. Therefore all candidates share one variance between seeds, assumed to be equal on the log-odds scale.
If the compared candidates themselves vary more between seeds, their own variance is used instead.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from scipy.stats import binomtest, t

LEVEL = 0.05
CROSSED = "t-test over seeds and images, both taken as random (Obuchowski and Rockette 1995, Hillis 2007)"
GROUPED = (
    "t-test over seeds and groups of images, both taken as random (Obuchowski and Rockette 1995, Hillis 2007; "
    "linearised ratios of group sums, Cochran 1977)"
)
MCNEMAR = "McNemar's exact test over images, because each candidate has one seed"
_EQUAL = 1e-12  # standard errors below are 0, up to rounding


@dataclass(frozen=True)
class PairedTest:
    """Test of the difference in accuracy between the candidates `a` and `b`.

    `difference` is the accuracy of `a` minus that of `b`. `adjusted` is `p` corrected for all pairs (Holm 1979).
    """

    a: str
    b: str
    difference: float
    interval: tuple[float, float] | None  # 95 % interval of the difference, not corrected for multiple comparisons
    p: float
    adjusted: float
    method: str

    @property
    def verdict(self) -> str:
        """Whether `a` is better than `b`, worse, or tied with `b`."""
        if self.adjusted >= LEVEL:
            return "tied"
        return "better" if self.difference > 0 else "worse"


class Correctness:
    """Which predictions of a candidate are correct: `right` is bool (seeds, images).

    Images of one group, such as a patient, may be right or wrong together. With `groups`, int (images,), the groups are
    therefore the sample: `units` (seeds, groups) has a value per group, whose mean over groups is the seed's accuracy.
    Without `groups`, each image is a unit.
    """

    def __init__(self, right: np.ndarray, groups: np.ndarray | None = None):
        self.right = np.asarray(right, float)
        self.seeds, self.images = self.right.shape
        self.accuracy = float(self.right.mean())
        self.by_image = self.right.mean(0)
        self.grouped = groups is not None
        self.units = self.right if groups is None else self._by_group(groups)
        self.count = self.units.shape[1]
        self.by_unit = self.units.mean(0)

    def _by_group(self, groups: np.ndarray) -> np.ndarray:
        """Return the accuracy plus each group's influence on it, which a sum over the group's images determines."""
        _, own = np.unique(groups, return_inverse=True)
        surplus = np.stack([np.bincount(own, row - self.accuracy) for row in self.right])
        return self.accuracy + surplus * surplus.shape[1] / self.images

    @cached_property
    def seed_variance(self) -> float:
        """Variance between the seeds' accuracies."""
        return float(self.right.mean(1).var(ddof=1)) if self.seeds > 1 else 0.0

    @cached_property
    def rest_variance(self) -> float:
        """Residual variance of single units, beyond the effects of their seed and of the unit itself."""
        if self.seeds == 1:
            return 0.0
        rest = self.units - self.units.mean(1, keepdims=True) - self.by_unit + self.accuracy
        return float((rest**2).sum() / ((self.seeds - 1) * (self.count - 1)))

    @cached_property
    def odds_slope(self) -> float:
        """Derivative of accuracy by its log-odds, kept above 0 by an imaginary extra image that is half correct."""
        share = (self.accuracy * self.count + 0.5) / (self.count + 1)
        return share * (1 - share)


class PairedTests:
    """Paired tests between candidates that predicted the same images.

    `correctness` maps the name of each candidate to its correctness. All candidates have the images in the same order.
    """

    def __init__(self, correctness: Mapping[str, Correctness]):
        self.correctness = dict(correctness)
        self._freedom = sum(one.seeds - 1 for one in self.correctness.values())
        squares = sum((one.seeds - 1) * one.seed_variance / one.odds_slope**2 for one in self.correctness.values())
        self._odds_variance = squares / self._freedom if self._freedom else 0.0

    def interval(self, name: str) -> tuple[float, float]:
        """Return the 95 % interval of a candidate's accuracy over all seeds and images.

        This is Wilson's interval for the number of images that would give the same variance (Korn and Graubard 1998).
        """
        one = self.correctness[name]
        binomial = one.accuracy * (1 - one.accuracy)
        of_seeds, of_units, freedom = self._variances(one.by_unit, [one])
        if binomial == 0:  # all predictions are right, or all wrong, so there is no variance
            images, freedom = one.count, np.inf
        else:
            # If seeds have equal accuracies but different mistakes, use the variance of single units.
            variance = max(of_seeds + of_units, one.rest_variance / (one.seeds * one.count))
            if variance < _EQUAL**2:  # all groups are equal, which can be chance if they are few
                variance = one.by_image.var(ddof=1) / one.images
            images = binomial * one.count / (one.count - 1) / variance
        z2 = t.ppf(1 - LEVEL / 2, freedom) ** 2
        middle = (one.accuracy + z2 / (2 * images)) / (1 + z2 / images)
        half = np.sqrt(z2 * binomial / images + z2**2 / (4 * images**2)) / (1 + z2 / images)
        return float(max(middle - half, 0)), float(min(middle + half, 1))

    def results(self) -> list[PairedTest]:
        """Return a paired test for every pair of candidates."""
        pairs = list(combinations(self.correctness, 2))
        found = [self._test(self.correctness[a], self.correctness[b]) for a, b in pairs]
        adjusted = holm([p for _, _, p, _ in found])
        return [
            PairedTest(a, b, difference, interval, p, corrected, method)
            for (a, b), (difference, interval, p, method), corrected in zip(pairs, found, adjusted, strict=True)
        ]

    def _test(self, a: Correctness, b: Correctness) -> tuple[float, tuple[float, float] | None, float, str]:
        difference = a.accuracy - b.accuracy
        if not self._freedom and _all_binary(a, b):
            return difference, None, mcnemar(a.right[0], b.right[0]), MCNEMAR
        method = GROUPED if a.grouped else CROSSED
        by_unit = a.by_unit - b.by_unit
        of_seeds, of_units, freedom = self._variances(by_unit, [a, b])
        # If seeds agree by chance, use at least the standard error that the units alone give.
        least = by_unit.var(ddof=1) / a.count
        if a.grouped:  # a few groups can be equal by chance
            least = max(least, (a.by_image - b.by_image).var(ddof=1) / a.images)
        error = np.sqrt(max(of_seeds + of_units, least))
        if error < _EQUAL:  # the difference is the same on every unit
            return difference, (difference, difference), 1.0 if difference == 0 else 0.0, method
        half = t.ppf(1 - LEVEL / 2, freedom) * error
        p = 2 * t.sf(abs(difference) / error, freedom)
        return difference, (float(difference - half), float(difference + half)), float(p), method

    def _variances(self, by_unit: np.ndarray, among: Sequence[Correctness]) -> tuple[float, float, float]:
        """Return the variances that seeds and units add to the mean of `by_unit`, and the degrees of freedom.

        `by_unit` has, for each unit, the value of one candidate, or the difference between two candidates. `among` has
        this candidate or both. There can be few groups, so their variance counts for the degrees of freedom; there are
        too many images to matter.
        """
        count = len(by_unit)
        own = sum(one.seed_variance / one.seeds for one in among)
        of_seeds = max(own, sum(self._odds_variance * one.odds_slope**2 / one.seeds for one in among))
        rest = sum(one.rest_variance / (one.seeds * count) for one in among)  # both variances contain this term
        of_units = max(by_unit.var(ddof=1) / count - rest, 0.0)
        parts = of_seeds**2 / self._freedom if of_seeds else 0.0
        parts += of_units**2 / (count - 1) if among[0].grouped else 0.0
        most = count - 1 if among[0].grouped else np.inf
        return of_seeds, of_units, (of_seeds + of_units) ** 2 / parts if parts else most


def _all_binary(*of: Correctness) -> bool:
    """Return whether units are predictions that are either correct or wrong, not shares of groups or corruptions."""
    return all(not one.grouped and np.isin(one.right, (0, 1)).all() for one in of)


def mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """Return the exact p-value of McNemar's test (McNemar 1947); `a` and `b` are 1 for correct predictions, else 0."""
    only_a, only_b = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def holm(ps: Sequence[float]) -> list[float]:
    """Return p-values corrected for multiple tests; the correction controls the family-wise error rate (Holm 1979)."""
    order = np.argsort(ps, kind="stable")
    corrected = np.empty(len(ps))
    corrected[order] = np.maximum.accumulate(np.asarray(ps)[order] * (len(ps) - np.arange(len(ps))))
    return np.minimum(corrected, 1.0).tolist()
