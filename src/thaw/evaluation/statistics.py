"""Whether candidates differ: accuracies whose seeds and images are both samples of all there could have been.

Seeds and images are crossed, as readers and cases are in diagnostic studies, and the variance of a mean is put together
as it is there (Obuchowski and Rockette 1995; degrees of freedom by Hillis 2007): what varies between seeds, and what
varies between images beyond that. Three seeds alone say little of how much seeds vary, so this is taken from all
candidates together, as equal in log-odds, or from the candidates at hand where they vary more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from scipy.stats import binomtest, t

LEVEL = 0.05
CROSSED = "t-test over seeds and images, both taken as random (Obuchowski and Rockette 1995, Hillis 2007)"
MCNEMAR = "McNemar's exact test over images, for there is one seed each"


@dataclass(frozen=True)
class Test:
    """`difference` is the accuracy of `a` minus that of `b`; `adjusted` is `p` corrected for all pairs (Holm 1979)."""

    a: str
    b: str
    difference: float
    interval: tuple[float, float] | None  # 95 %, of this difference by itself
    p: float
    adjusted: float
    method: str

    @property
    def verdict(self) -> str:
        """Of `a` against `b`."""
        if self.adjusted >= LEVEL:
            return "tied"
        return "better" if self.difference > 0 else "worse"


class Answers:
    """Which images a candidate's runs have right: bool (seeds, images)."""

    def __init__(self, right: np.ndarray):
        self.right = np.asarray(right, float)
        self.seeds, self.images = self.right.shape
        self.accuracy = float(self.right.mean())
        self.by_image = self.right.mean(0)

    @cached_property
    def seed_variance(self) -> float:
        """Of the accuracy from one seed to the next, on these images."""
        return float(self.right.mean(1).var(ddof=1)) if self.seeds > 1 else 0.0

    @cached_property
    def rest_variance(self) -> float:
        """Of a single answer, beyond what its seed and its image make of it."""
        if self.seeds == 1:
            return 0.0
        rest = self.right - self.right.mean(1, keepdims=True) - self.by_image + self.accuracy
        return float((rest**2).sum() / ((self.seeds - 1) * (self.images - 1)))

    @cached_property
    def odds_slope(self) -> float:
        """By which accuracy changes with its log-odds, as if one image more were half right."""
        share = (self.by_image.sum() + 0.5) / (self.images + 1)
        return share * (1 - share)


class Sweep:
    """The answers of several candidates to the same images, in the same order."""

    def __init__(self, answers: Mapping[str, Answers]):
        self.answers = dict(answers)
        self._freedom = sum(one.seeds - 1 for one in self.answers.values())
        squares = sum((one.seeds - 1) * one.seed_variance / one.odds_slope**2 for one in self.answers.values())
        self._odds_variance = squares / self._freedom if self._freedom else 0.0

    def interval(self, name: str) -> tuple[float, float]:
        """95 %, of the accuracy over all seeds and images: Wilson's, with the number of images that the variance is
        worth (Korn and Graubard 1998).
        """
        one = self.answers[name]
        binomial = one.accuracy * (1 - one.accuracy)
        of_seeds, of_images, freedom = self._variances(one.by_image, [one])
        if binomial == 0:  # no image and no seed has shown how an answer may vary
            images, freedom = one.images, np.inf
        else:
            images = binomial * one.images / (one.images - 1) / (of_seeds + of_images)
        z2 = t.ppf(1 - LEVEL / 2, freedom) ** 2
        middle = (one.accuracy + z2 / (2 * images)) / (1 + z2 / images)
        half = np.sqrt(z2 * binomial / images + z2**2 / (4 * images**2)) / (1 + z2 / images)
        return float(max(middle - half, 0)), float(min(middle + half, 1))

    def tests(self) -> list[Test]:
        """Of every pair, each image's answers held against each other."""
        pairs = list(combinations(self.answers, 2))
        found = [self._test(self.answers[a], self.answers[b]) for a, b in pairs]
        adjusted = holm([p for _, _, p, _ in found])
        return [
            Test(a, b, difference, interval, p, corrected, method)
            for (a, b), (difference, interval, p, method), corrected in zip(pairs, found, adjusted, strict=True)
        ]

    def _test(self, a: Answers, b: Answers) -> tuple[float, tuple[float, float] | None, float, str]:
        difference = a.accuracy - b.accuracy
        if not self._freedom:
            return difference, None, mcnemar(a.right[0], b.right[0]), MCNEMAR
        by_image = a.by_image - b.by_image
        of_seeds, of_images, freedom = self._variances(by_image, [a, b])
        # Seeds that happen to agree do not make images tell more than they do by themselves.
        error = np.sqrt(max(of_seeds + of_images, by_image.var(ddof=1) / a.images))
        if error == 0:  # the same answers to every image
            return difference, (difference, difference), 1.0 if difference == 0 else 0.0, CROSSED
        half = t.ppf(1 - LEVEL / 2, freedom) * error
        p = 2 * t.sf(abs(difference) / error, freedom)
        return difference, (float(difference - half), float(difference + half)), float(p), CROSSED

    def _variances(self, by_image: np.ndarray, among: Sequence[Answers]) -> tuple[float, float, float]:
        """What seeds add to the variance of the mean of `by_image`, which `among` have made; what images add; the
        degrees of freedom of the sum.
        """
        images = len(by_image)
        own = sum(one.seed_variance / one.seeds for one in among)
        of_seeds = max(own, sum(self._odds_variance * one.odds_slope**2 / one.seeds for one in among))
        rest = sum(one.rest_variance / (one.seeds * images) for one in among)  # is in both, and counts once
        of_images = max(by_image.var(ddof=1) / images - rest, 0.0)
        return of_seeds, of_images, self._freedom * (1 + of_images / of_seeds) ** 2 if of_seeds else np.inf


def mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """The exact p of two rows of answers to the same images being equally good (McNemar 1947)."""
    only_a, only_b = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def holm(ps: Sequence[float]) -> list[float]:
    """`ps` corrected so that of true equalities one is called a difference in at most 5 % of cases (Holm 1979)."""
    order = np.argsort(ps, kind="stable")
    corrected = np.empty(len(ps))
    corrected[order] = np.maximum.accumulate(np.asarray(ps)[order] * (len(ps) - np.arange(len(ps))))
    return np.minimum(corrected, 1.0).tolist()
