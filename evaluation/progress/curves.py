"""The log of a run as columns: the loss of each step, and the held-out loss against the base."""

from __future__ import annotations

import csv
import io
import math
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...language import say
from ...lines import Lines
from ...trainer.statistics import FEWEST_PAIRS, Interval, relative_change

Entry = Mapping[str, Any]
Array = NDArray[np.float64]
SMOOTHING_SHARE = 0.05  # of the steps done so far, the width of the moving average


@dataclass(frozen=True)
class Tested:
    """The held-out pairs at one step: the `losses` of the LoRA and of the `base` alone.

    `change` is the mean relative change of each pair's loss from its base loss.
    """

    step: int
    losses: tuple[float, ...]
    base: tuple[float, ...]
    change: Interval

    @property
    def is_evidence(self) -> bool:
        return len(self.losses) >= FEWEST_PAIRS

    @property
    def shares(self) -> Array:
        """Each pair's loss as a share of its base loss."""
        return np.divide(self.losses, self.base)

    @property
    def summary(self) -> str:
        """The change in percent with its interval, or that there are too few pairs for one."""
        mean, low, high = (100 * value for value in interval_numbers(self.change))
        if not self.is_evidence:
            return say(
                "{mean:+.1f}% (on {pairs} of at least 3 pairs: no evidence)",
                mean=mean,
                pairs=len(self.losses),
            )
        return say("{mean:+.1f}% ({low:+.1f} to {high:+.1f})", mean=mean, low=low, high=high)


class Course:
    """A run's log so far. Adding a step or reading a number takes constant time.

    A million steps take 48 MB.
    """

    def __init__(self, log: Iterable[Entry] = ()) -> None:
        self._columns = {name: array("d") for name in NUMBERS}
        self._sums = array("d", [0.0])  # of the losses before each place
        self.tested: list[Tested] = []
        self.notes: list[tuple[int, str]] = []
        for entry in log:
            self.add(entry)

    def __len__(self) -> int:
        return len(self._sums) - 1

    def add(self, entry: Entry) -> None:
        """Add the next step. A held-out change has a 95 % interval over the pairs, unbounded with
        fewer than 3."""
        for name, column in self._columns.items():
            value = entry.get(name)
            column.append(math.nan if value is None else value)
        self._sums.append(self._sums[-1] + entry["loss"])
        step, losses, base = entry["step"], entry.get("holdout"), entry.get("holdout_base")
        if losses and base and len(losses) == len(base):
            change = relative_change(losses, base)
            self.tested.append(Tested(step, tuple(losses), tuple(base), change))
        if "note" in entry:
            self.notes.append((step, str(entry["note"])))

    def column(self, name: str) -> Array:
        """One of NUMBERS for every step; NaN where it was not measured."""
        return np.array(self._columns[name])

    def number(self, name: str, place: int) -> float:
        return self._columns[name][place]

    @property
    def step(self) -> int:
        """The last step done; 0 before the first."""
        return int(self._columns["step"][-1]) if len(self) else 0

    def smoothed(self, place: int) -> float:
        """Moving average of the loss at this place, over the last twentieth of the steps so far."""
        end = place + 1
        start = max(0, end - smoothing_width(end))
        return (self._sums[end] - self._sums[start]) / (end - start)


class GrowingCourse:
    """The course of a log that may still grow: each look reads only what was added since."""

    def __init__(self, lines: Lines[dict[str, Any]]) -> None:
        self._lines, self._course, self._lock = lines, Course(), Lock()

    @contextmanager
    def course(self) -> Iterator[Course]:
        """The course up to now. Others wait until it is no longer looked at."""
        with self._lock:
            anew, added = self._lines.added()
            if anew:
                self._course = Course()
            for entry in added:
                self._course.add(entry)
            yield self._course


NUMBERS = ("step", "loss", "learning_rate", "grad_norm", "seconds", "memory")


def interval_numbers(interval: Interval) -> tuple[float, float, float]:
    return interval.mean, interval.low, interval.high


def smoothing_width(steps: int) -> int:
    """Width of the moving average in steps: a twentieth of those done, at least ten."""
    return max(10, round(steps * SMOOTHING_SHARE))


def thinned(length: int, most: int) -> list[int]:
    """At most `most` evenly spread places in a sequence of this length, including the last."""
    every = max(1, math.ceil(length / most))
    return list(range(length - 1, -1, -every))[::-1]


COLUMNS = (
    "step", "loss", "loss_smoothed", "learning_rate", "grad_norm", "seconds", "memory_bytes",
    "holdout_pairs", "holdout_loss", "holdout_base_loss", "holdout_change_percent",
    "holdout_low_percent", "holdout_high_percent",
)  # fmt: skip


def as_csv(course: Course, first: int = 0, end: int | None = None) -> str:
    """The log as CSV with COLUMNS, from place `first` up to `end`, with a header if `first` is 0.

    Values that were not measured are empty.
    """
    tested: dict[int, Tested] = {}
    for each in reversed(course.tested):
        if len(course) == first or each.step < course.number("step", first):
            break
        tested[each.step] = each
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if not first:
        writer.writerow(COLUMNS)
    for place in range(first, len(course) if end is None else end):
        step = int(course.number("step", place))
        row: list[Any] = [step, course.number("loss", place), f"{course.smoothed(place):.6g}"]
        measured = [course.number(name, place) for name in NUMBERS[2:]]
        row += [None if math.isnan(value) else value for value in measured[:-1]]
        row += [None if math.isnan(measured[-1]) else int(measured[-1])]
        if at := tested.get(step):
            percent = [100 * value for value in interval_numbers(at.change)]
            row += [len(at.losses), float(np.mean(at.losses)), float(np.mean(at.base))]
            row += [f"{value:.4g}" if math.isfinite(value) else None for value in percent]
        writer.writerow(row + [None] * (len(COLUMNS) - len(row)))
    return text.getvalue()
