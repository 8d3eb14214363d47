"""Area under the ROC curve (AUROC): how well a number separates two groups."""

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm, rankdata

from thaw.evaluation.measures import wilson


def auroc(low: np.ndarray, high: np.ndarray) -> dict:
    """Return the probability that a value of `high`, float (m,), exceeds one of `low`, float (n,), and its interval.

    Ties count half. The 95 % interval has the variance of DeLong et al. 1988 on the log-odds scale. For a perfect
    separation, whose variance is 0, it is Wilson's interval for as many images as the smaller group has.
    """
    n, m = len(low), len(high)
    ranks = rankdata(np.concatenate([low, high]))
    below = (ranks[n:] - rankdata(high)) / n  # per value of `high`: the share of `low` that it exceeds
    above = 1 - (ranks[:n] - rankdata(low)) / m
    value = float(below.mean())
    if not 0 < value < 1 or min(n, m) < 2:
        few = min(n, m)
        return {"value": value, "ci95": wilson(round(value * few), few)}
    error = np.sqrt(below.var(ddof=1) / m + above.var(ddof=1) / n)
    half = norm.ppf(0.975) * error / (value * (1 - value))
    return {"value": value, "ci95": expit(logit(value) + np.array([-half, half])).tolist()}
