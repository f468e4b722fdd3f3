"""Paired intervals against scipy and by simulated coverage."""

import numpy as np
import pytest
from kontext.trainer.statistics import Interval, paired_interval, relative_change
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


@pytest.mark.parametrize("count", [4, 5, 8])
def test_changes_of_unlike_pairs_have_a_narrow_interval_that_keeps_its_promise(count):
    """Base losses that differ as those of the demo model's edits do (tenfold from the fifth to the
    95th percentile), every pair changed by -60 % give or take 10. Against the difference of means:
    covers as often as it says, and at most half as wide."""
    random, rounds, change = np.random.default_rng(0), 2000, -0.6
    covered, widths, widths_of_means = 0, [], []
    for _ in range(rounds):
        base = random.lognormal(-1, 0.7, count)
        losses = base * (1 + change + random.normal(0, 0.1, count))
        ours, means = relative_change(losses, base), paired_interval(losses - base)
        covered += ours.low <= change <= ours.high
        widths.append(ours.high - ours.low)
        widths_of_means.append((means.high - means.low) / base.mean())
    assert 0.93 < covered / rounds < 0.97
    assert np.median(widths) < 0.5 * np.median(widths_of_means)
