"""Intervals and verdicts from a handful of seeds."""

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

__all__ = ["Interval", "Verdict", "bootstrap_interval", "verdict"]

Verdict = Literal["supported", "not supported", "inconclusive"]


class Interval(NamedTuple):
    """An estimate with the ends of its confidence interval."""

    estimate: float
    low: float
    high: float


def bootstrap_interval(
    differences: ArrayLike, confidence: float, resamples: int, seed: int
) -> Interval:
    r"""Expanded percentile bootstrap interval of the mean of paired differences.

    The plain percentile interval and BCa are too short for the five seeds of a run: on normal
    differences a nominal 95 % covers 84 % with either, since both take the spread of the sample
    for that of the population, and BCa besides estimates a skewness from five numbers and fails
    on equal ones. The expanded interval takes the percentiles at

    .. math:: \alpha' / 2 = \Phi\left(-\sqrt{n / (n - 1)}\; t_{n - 1,\, 1 - \alpha/2}\right),

    which gives the width of Student's interval on normal data and follows the data's asymmetry;
    it covers 93 % for n = 5. Equal differences give an interval of width zero.

    Source: Hesterberg 2015, *What teachers should know about the bootstrap*, section 4.3.

    Args:
        differences: One difference per seed.
        confidence: Nominal confidence, in (0, 1).
        resamples: Number of bootstrap resamples.
        seed: Seed of the resampling.

    Returns:
        The mean and its interval; the ends are NaN for fewer than two differences, all three for
        none.
    """
    values = np.asarray(differences, dtype=float)
    n = len(values)
    if n < 2:
        return Interval(float(values[0]) if n else math.nan, math.nan, math.nan)
    # Quantiles by scipy.special and the bootstrap by numpy: scipy.stats takes a second to load.
    student = special.stdtrit(n - 1, 0.5 + confidence / 2)
    tail = special.ndtr(-math.sqrt(n / (n - 1)) * student)
    drawn = np.random.default_rng(seed).integers(0, n, (resamples, n))
    low, high = np.quantile(values[drawn].mean(axis=1), [tail, 1 - tail])
    return Interval(values.mean(), float(low), float(high))


def verdict(interval: Interval, claimed: Literal["below", "above"], bound: float = 0.0) -> Verdict:
    """What an interval says of the claim that the quantity lies below (or above) a bound.

    ``supported`` if the whole interval lies on the claimed side, ``not supported`` if the whole
    of it lies on the other side, ``inconclusive`` if it holds the bound or cannot be formed.
    """
    if interval.high < bound:
        return "supported" if claimed == "below" else "not supported"
    if interval.low > bound:
        return "supported" if claimed == "above" else "not supported"
    return "inconclusive"
