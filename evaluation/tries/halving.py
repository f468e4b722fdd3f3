"""Successive halving (Jamieson & Talwalkar 2016): the better half continues for twice as long.

Held-out pairs, noise levels and noises are the same for all, so tries are compared pair by pair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ...trainer.statistics import Interval, paired_interval

Array = NDArray[np.float64]
SHARE_OF_PLAN = 10  # a try has at most a tenth of the steps of the long run
FEWEST_STEPS = 80  # with 40, rates were told apart after 20, too early (docs/proofs/automatic.md)


def steps_of(planned: int) -> int:
    """Steps of the longest tries, for a run of `planned` steps."""
    return max(FEWEST_STEPS, planned // SHARE_OF_PLAN)


def rounds(count: int, steps: int) -> list[tuple[int, int]]:
    """For each round, how many tries train, and to which step. Half continue, the last two to the
    end."""
    sizes = [count]
    while sizes[-1] > 2:
        sizes.append(-(-sizes[-1] // 2))
    return [(size, max(1, steps >> (len(sizes) - 1 - i))) for i, size in enumerate(sizes)]


def cost(count: int, steps: int) -> int:
    """Training steps of all rounds together."""
    total, done = 0, 0
    for size, until in rounds(count, steps):
        total, done = total + size * (until - done), until
    return total


def best_first(shares: Mapping[int, Sequence[float]]) -> list[int]:
    """The tries by mean held-out loss, as shares of the base model's; NaN comes last."""
    means = {place: float(np.mean(each)) for place, each in shares.items()}
    return sorted(means, key=lambda place: (not np.isfinite(means[place]), means[place], place))


def behind(one: Sequence[float], best: Sequence[float]) -> Interval:
    """How much higher the held-out loss of `one` is, as a share of the base's; paired, 95 %."""
    return paired_interval(np.subtract(one, best))
