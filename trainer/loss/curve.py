"""The held-out pairs over a run, past their best or not: [measurements, pairs], shares of the base.

All pairs and noises are the same at every measurement, so differences are taken pair by pair.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from ..statistics import Interval, paired_interval

Array = NDArray[np.float64]
FEWEST_PAIRS = 3  # fewer held-out pairs have no interval, and are no evidence
RISE = 0.02  # of the base's held-out loss; less is no memorising worth a word
MOST_TESTS = 200  # measurements from which the scatter of single ones is estimated


@dataclass(frozen=True)
class Rise:
    """By how much the last quarter lies above the best earlier one, whose first and last place
    are `best`; `bottom` is the place of the lowest measurement in it."""

    best: tuple[int, int]
    bottom: int
    height: Interval


def rise_from_best(shares: Array) -> Rise | None:
    """Whether the held-out loss has left its best for good.

    The last quarter of the measurements against the best earlier one: the difference must hold
    over the pairs (three comparisons, hence the level), and stand out of the curve's own jitter.
    """
    if len(shares) < 4:
        return None
    quarters = np.array_split(np.arange(len(shares)), 4)
    means = [shares[quarter].mean() for quarter in quarters]
    best, last = quarters[int(np.argmin(means[:3]))], quarters[3]
    height = paired_interval(shares[last].mean(0) - shares[best].mean(0), 1 - 0.05 / 3)
    deviation = jitter(shares.mean(1)) * np.sqrt(1 / len(best) + 1 / len(last))
    if height.low <= 0 or height.mean < max(RISE, 3 * deviation):
        return None
    bottom = int(best[np.argmin(shares[best].mean(1))])
    return Rise((int(best[0]), int(best[-1])), bottom, height)


def falling_fit(values: Array, weights: Array) -> Array:
    """The closest curve that never rises (pool adjacent violators, Barlow et al. 1972)."""
    return optimize.isotonic_regression(values, weights=weights, increasing=False).x


def jitter(curve: Array) -> float:
    """Scatter of single values about the closest curve that falls and then rises."""
    curve = curve[:: -max(1, -(-len(curve) // MOST_TESTS))][::-1]
    ones, best = np.ones_like(curve), np.inf
    for low in range(1, len(curve) + 1):
        falling = falling_fit(curve[:low], ones[:low])
        rising = -falling_fit(-curve[low:], ones[low:]) if low < len(curve) else curve[:0]
        best = min(best, np.mean((curve - np.concatenate([falling, rising])) ** 2))
    # the fit follows half of the scatter
    return 2 * float(np.sqrt(best))
