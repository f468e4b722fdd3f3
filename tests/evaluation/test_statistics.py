"""Paired intervals against scipy and by simulated coverage."""

import numpy as np
import pytest
from kontext.evaluation.statistics import Interval, paired_interval
from scipy import stats


@pytest.mark.parametrize("count", [3, 4, 8, 20])
def test_the_interval_is_scipys_one_sample_t(count):
    values = np.random.default_rng(count).normal(0.3, 1, count)
    ours = paired_interval(values)
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs))
    assert ours.error == pytest.approx(stats.sem(values))


def test_two_pairs_promise_nothing():
    assert not paired_interval(np.array([1.0, 1.01])).excludes_zero


@pytest.mark.parametrize("count", [4, 6, 8, 12])
def test_the_interval_covers_the_truth_as_often_as_it_says(count):
    """95 % nominal, at the small numbers of held-out pairs users have; skewed as losses are."""
    draws = np.random.default_rng(0).gamma(9.0, 1 / 9, (2000, count)) - 1
    covered = 0
    for values in draws:
        interval = paired_interval(values)
        covered += interval.low <= 0 <= interval.high
    assert 0.92 < covered / 2000 < 0.97


def test_scaling_by_a_negative_number_keeps_low_below_high():
    assert Interval(1, 0.5, 2, 0.1).scaled(-2) == Interval(-2, -4, -1, 0.2)
