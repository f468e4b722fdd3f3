"""Early stopping: the held-out pairs decide, and the learning rate then falls to 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .config import TrainConfig
from .loss.curve import has_levelled_off, late_gain, rise_from_best
from .runs.ending import Ending, plan_of
from .statistics import FEWEST_PAIRS, percent

LAST_TENTH = 9  # of ten parts are trained when the last one begins
WITHOUT_SCHEDULE = {"schedulefree", "prodigyplus"}  # their weights need no falling rate


@dataclass
class HeldOutCurve:
    """The held-out measurements of a run so far: their steps, and each pair's loss over its base
    loss."""

    steps: list[int] = field(default_factory=list)
    shares: list[Sequence[float]] = field(default_factory=list)

    def add(self, entry: Mapping[str, Any]) -> None:
        """Add a log entry, if it has a measurement."""
        if entry.get("holdout"):
            self.steps.append(entry["step"])
            self.shares.append(np.divide(entry["holdout"], entry["holdout_base"]).tolist())


def ending(curve: HeldOutCurve, config: TrainConfig, done: int) -> Ending | None:
    """Where to end a run after `done` steps; None if it should go on as planned.

    Also None if the planned end is no later. A rate that falls over the last tenth or fifth gets as
    far as a cosine to the same step (Hägele et al. 2024, arXiv:2405.18392).
    """
    shares = np.array(curve.shares)
    if config.stop == "last_step" or not len(shares) or shares.shape[1] < FEWEST_PAIRS:
        return None
    at_once = config.optimizer in WITHOUT_SCHEDULE
    step = done if at_once else done + max(1, round(done / LAST_TENTH))
    numbers = reason(shares, curve.steps, config.stop)
    if not numbers or step >= config.steps:
        return None
    return Ending(done, step, config.stop, numbers, plan_of(config))


def reason(shares: np.ndarray, steps: Sequence[int], stop: str) -> dict[str, float]:
    """The numbers that call for an end, in percent; empty if nothing does."""
    if stop == "levelled_off" and has_levelled_off(shares):
        late = max(0.0, late_gain(shares).mean)
        return {"late": percent(late), "change": percent(shares[-1].mean() - 1)}
    rise = rise_from_best(shares) if stop == "past_best" else None
    return {"rise": percent(rise.height.mean), "best": steps[rise.bottom]} if rise else {}
