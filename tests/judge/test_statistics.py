"""Intervals, verdicts, p-values: known cases, coverage, error rates, degenerate input."""

import math

import numpy as np
import pytest
from scipy import stats

from kahlervae.judge.statistics import (
    Interval,
    bootstrap_interval,
    holm,
    student_p,
    verdict,
)

SETTINGS = {"confidence": 0.95, "resamples": 1999, "seed": 0}


def test_agrees_with_student_on_many_normal_differences():
    values = np.random.default_rng(0).normal(1, 2, 400)
    interval = bootstrap_interval(values, 0.95, 9999, 0)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert interval.estimate == pytest.approx(values.mean())
    assert interval.low == pytest.approx(expected.low, abs=0.02)
    assert interval.high == pytest.approx(expected.high, abs=0.02)


def test_covers_five_normal_differences_more_often_than_the_plain_interval():
    random = np.random.default_rng(0)
    expanded = plain = 0
    for values in random.normal(size=(400, 5)):
        interval = bootstrap_interval(values, **SETTINGS | {"resamples": 999})
        expanded += interval.low <= 0 <= interval.high
        ends = stats.bootstrap(
            (values,), np.mean, method="percentile", n_resamples=999, rng=random
        ).confidence_interval
        plain += ends.low <= 0 <= ends.high
    assert plain / 400 < 0.88
    assert 0.90 < expanded / 400 < 0.96


def test_is_the_percentile_bootstrap_at_the_expanded_confidence():
    values = np.random.default_rng(1).normal(size=5)
    tail = stats.norm.cdf(-math.sqrt(5 / 4) * stats.t.ppf(0.975, 4))
    expected = stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=1 - 2 * tail,
        n_resamples=1999,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    interval = bootstrap_interval(values, **SETTINGS)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), rel=1e-12)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_of_fewer_seeds_it_is_students_interval_whose_ends_no_resample_reaches(count):
    values = np.random.default_rng(count).normal(1, 2, count)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    interval = bootstrap_interval(values, **SETTINGS)
    assert (interval.low, interval.high) == pytest.approx(tuple(expected), rel=1e-12)
    assert interval.high > values.max()


def test_stays_within_the_differences():
    values = [1.0, 2.0, 4.0, 3.0, 9.0]
    interval = bootstrap_interval(values, **SETTINGS)
    assert 1 <= interval.low < interval.estimate < interval.high <= 9
    assert interval == bootstrap_interval(values, **SETTINGS)


@pytest.mark.parametrize("values", [[0.25] * 5, [0.25] * 2, [0.0] * 5])
def test_equal_differences_give_an_interval_of_width_zero(values):
    assert bootstrap_interval(values, **SETTINGS) == Interval(values[0], values[0], values[0])


def test_too_few_differences():
    single = bootstrap_interval([0.5], **SETTINGS)
    assert single.estimate == 0.5
    assert math.isnan(single.low)
    assert math.isnan(single.high)
    assert all(math.isnan(value) for value in bootstrap_interval([], **SETTINGS))


@pytest.mark.parametrize(
    ("low", "high", "below", "above"),
    [
        (-2, -1, "supported", "not supported"),
        (1, 2, "not supported", "supported"),
        (-1, 1, "inconclusive", "inconclusive"),
        (0, 0, "inconclusive", "inconclusive"),
        (-1, 0, "inconclusive", "inconclusive"),
        (math.nan, math.nan, "inconclusive", "inconclusive"),
    ],
)
def test_verdict(low, high, below, above):
    interval = Interval((low + high) / 2, low, high)
    assert verdict(interval, "below") == below
    assert verdict(interval, "above") == above
    moved = Interval(interval.estimate + 5, low + 5, high + 5)
    assert verdict(moved, "below", 5.0) == below


@pytest.mark.parametrize("bound", [0.0, 0.5, -1.0])
def test_p_value_is_that_of_the_t_test(bound):
    values = np.random.default_rng(2).normal(0.3, 1, 5)
    expected = stats.ttest_1samp(values, bound).pvalue
    assert student_p(values, bound) == pytest.approx(expected, rel=1e-12)


def test_p_value_of_degenerate_differences():
    assert student_p([0.25] * 5) == 0
    assert student_p([0.25] * 5, 0.25) == 1
    assert math.isnan(student_p([1.0]))
    assert math.isnan(student_p([]))


def test_holm_by_hand():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, and 0.04 raised to 0.06.
    adjusted = holm([0.01, 0.04, 0.03, 0.005])
    assert adjusted == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == pytest.approx([1, 1])
    assert len(holm([])) == 0


def test_holm_rejects_as_the_step_down_procedure_says():
    random = np.random.default_rng(0)
    for p_values in random.uniform(size=(200, 8)) ** 3:
        rejected = np.zeros(8, dtype=bool)
        for step, index in enumerate(np.argsort(p_values)):
            if p_values[index] > 0.05 / (8 - step):
                break
            rejected[index] = True
        assert (holm(p_values) <= 0.05).tolist() == rejected.tolist()


def test_holm_leaves_out_what_was_not_tested():
    adjusted = holm([math.nan, 0.02, 0.01, math.nan])
    assert adjusted == pytest.approx([math.nan, 0.02, 0.02, math.nan], nan_ok=True)


def test_holm_keeps_the_family_wise_error_rate():
    random = np.random.default_rng(1)
    wrong = sum(
        (holm([student_p(values) for values in random.normal(size=(10, 5))]) <= 0.05).any()
        for _ in range(400)
    )
    assert 0.02 < wrong / 400 < 0.08
