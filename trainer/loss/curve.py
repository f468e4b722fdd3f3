"""Whether the held-out loss of a run still falls, has levelled off, or has risen again.

`shares` [measurements, pairs] are losses as shares of the base model's. Pairs and noise are the
same at every measurement, so differences are taken pair by pair.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from ..statistics import Interval, paired_interval

Array = NDArray[np.float64]
RISE = 0.02  # of the base model's loss: a smaller rise is not worth mentioning
LEVEL = 0.03  # of the whole gain: levelled off if the last third gained less
FEWEST_TESTS = 6  # measurements needed before that
MOST_TESTS = 200  # measurements used to estimate the scatter


@dataclass(frozen=True)
class Rise:
    """`height` is how far the last quarter of the measurements lies above the best earlier quarter.

    `best` are the first and last place of that quarter, `bottom` is the place of its lowest value.
    """

    best: tuple[int, int]
    bottom: int
    height: Interval


def rise_from_best(shares: Array) -> Rise | None:
    """The rise of the held-out loss if it has left its best for good, else None.

    Compares the last quarter of the measurements with the best earlier one. The difference must be
    significant over the pairs (three comparisons, hence the level) and exceed the curve's jitter.
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


def late_gain(shares: Array) -> Interval:
    """The gain of the last third of the measurements over the third before it, as a share of the
    whole gain; unbounded while the whole gain is not significant."""
    _, middle, last = np.array_split(shares, 3)
    gain = paired_interval(1 - last.mean(0))
    if gain.low <= 0:
        return Interval(np.inf, -np.inf, np.inf, np.inf)
    return paired_interval(middle.mean(0) - last.mean(0)).scaled(1 / gain.mean)


def has_levelled_off(shares: Array) -> bool:
    """Whether the late gain and its upper bound are small, now and one measurement ago.

    A curve is tested many times: a single test would sooner or later succeed by chance.
    """
    if len(shares) <= FEWEST_TESTS:
        return False
    looks = [late_gain(shares[:end]) for end in (len(shares) - 1, len(shares))]
    return all(look.mean < LEVEL and look.high < 2 * LEVEL for look in looks)


def falling_fit(values: Array, weights: Array) -> Array:
    """The closest non-increasing curve (pool adjacent violators, Barlow et al. 1972)."""
    return optimize.isotonic_regression(values, weights=weights, increasing=False).x


def jitter(curve: Array) -> float:
    """Scatter of single values about the closest curve that falls and then rises."""
    curve = curve[:: -max(1, -(-len(curve) // MOST_TESTS))][::-1]
    ones, best = np.ones_like(curve), np.inf
    for low in range(1, len(curve) + 1):
        falling = falling_fit(curve[:low], ones[:low])
        rising = -falling_fit(-curve[low:], ones[low:]) if low < len(curve) else curve[:0]
        best = min(best, np.mean((curve - np.concatenate([falling, rising])) ** 2))
    # twice, because the fit follows half of the scatter
    return 2 * float(np.sqrt(best))
