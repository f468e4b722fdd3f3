"""The log of a run as curves: the loss of each step, and the held-out loss against the base."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..statistics import Interval, paired_interval

Entry = Mapping[str, Any]
Array = NDArray[np.float64]
SMOOTHING_SHARE = 0.05  # of the steps done, the width of the moving average


@dataclass(frozen=True)
class Tested:
    """The held-out pairs at one step; `change` is a share of the base's loss, 0 = as the base."""

    step: int
    losses: tuple[float, ...]
    change: Interval

    @property
    def words(self) -> str:
        """Such as "-12.3 % (-15.0 to -9.6)"."""
        mean, low, high = (100 * value for value in interval_numbers(self.change))
        reach = f" ({low:+.1f} to {high:+.1f})" if math.isfinite(low) else ""
        return f"{mean:+.1f} %{reach}"


def interval_numbers(interval: Interval) -> tuple[float, float, float]:
    return interval.mean, interval.low, interval.high


def held_out(log: Sequence[Entry]) -> list[Tested]:
    """Every measurement of the held-out pairs. The bounds are a 95 % interval, paired over the
    pairs, of the difference to the base; unbounded with fewer than 3 pairs."""
    found = []
    for entry in log:
        if "holdout" in entry:
            base = np.asarray(entry["holdout_base"])
            difference = np.asarray(entry["holdout"]) - base
            change = paired_interval(difference).scaled(1 / float(base.mean()))
            found.append(Tested(entry["step"], tuple(entry["holdout"]), change))
    return found


def moving_average(values: Sequence[float], width: int) -> Array:
    """Mean of up to `width` values before and with each one."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - width)
    return (sums[ends] - sums[starts]) / (ends - starts)


def smoothing_width(steps: int) -> int:
    """Steps that are averaged: a twentieth of those done, at least ten."""
    return max(10, round(steps * SMOOTHING_SHARE))


def thinned(length: int, most: int) -> list[int]:
    """At most `most` places in a sequence of this length, evenly spread, with the last one."""
    every = max(1, math.ceil(length / most))
    return list(range(length - 1, -1, -every))[::-1]


COLUMNS = (
    "step", "loss", "loss_smoothed", "learning_rate", "grad_norm", "seconds", "memory_bytes",
    "holdout_pairs", "holdout_loss", "holdout_base_loss", "holdout_change_percent",
    "holdout_low_percent", "holdout_high_percent",
)  # fmt: skip


def as_csv(log: Sequence[Entry]) -> str:
    """The log as a table with COLUMNS; what was not measured at a step is empty."""
    smooth = moving_average([entry["loss"] for entry in log], smoothing_width(len(log)))
    tested = {each.step: each for each in held_out(log)}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for entry, mean in zip(log, smooth, strict=True):
        row: list[Any] = [entry["step"], entry["loss"], f"{mean:.6g}"]
        row += [entry.get(name) for name in ("learning_rate", "grad_norm", "seconds", "memory")]
        at = tested.get(entry["step"])
        if at:
            percent = [100 * value for value in interval_numbers(at.change)]
            base = float(np.mean(entry["holdout_base"]))
            row += [len(at.losses), float(np.mean(at.losses)), base]
            row += [f"{value:.4g}" if math.isfinite(value) else None for value in percent]
        writer.writerow(row + [None] * (len(COLUMNS) - len(row)))
    return text.getvalue()
