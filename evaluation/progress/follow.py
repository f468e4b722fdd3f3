"""Displays a run in progress: its page and table on disk, the chart in ComfyUI."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np

from ...dataset.pair import PairedDataset
from ...files import storing, write_atomically
from ...trainer import host
from ...trainer.runs.run import Run
from ...trainer.watcher import Watcher
from .curves import Course, Entry, Tested, as_csv, interval_numbers, thinned
from .diagnosis import Symptom, diagnose
from .run_page import write_page

EVENT = "kontext.progress"
SECONDS_BETWEEN = 1.0  # events
MOST_POINTS = 200  # of a curve in an event
LONGEST_ROW = 1000  # bytes
DIAGNOSES = 50  # in a run, besides those after measuring the held-out pairs


class Follower(Watcher):
    """Writes `log.csv` and `run.html` at every checkpoint and sends ComfyUI's pages the steps.

    Every event holds the whole chart, for pages that have just been opened. Without a node there
    are no events. The cost of a step does not grow with the run. `graph`, the graph that trains, is
    saved so that the run can be continued from its page.
    """

    def __init__(
        self,
        pairs: PairedDataset,
        node_id: str | None = None,
        graph: Mapping[str, Any] | None = None,
    ) -> None:
        self.pairs, self.node_id, self.graph = pairs, node_id, graph

    def begin(self, run: Run) -> None:
        self.run, self.steps = run, run.last_step()
        self.course = Course(run.lines)
        self.table = Table(run, self.course)
        self.first, self.last_event = len(self.course), -math.inf
        self.symptoms = diagnose(self.course)
        if self.graph:
            graph = json.dumps(self.graph, ensure_ascii=False)
            write_atomically(run.folder / "workflow.json", graph.encode("utf-8", "replace"))

    def add(self, entry: Entry) -> None:
        self.course.add(entry)
        if not self.node_id:
            return
        tested = "holdout" in entry
        if tested:
            self.steps = self.run.last_step()
        if tested or entry["step"] % max(1, self.steps // DIAGNOSES) == 0:
            self.symptoms = diagnose(self.course)
        due = time.monotonic() - self.last_event > SECONDS_BETWEEN
        if due or tested or entry["step"] == self.steps:
            self.last_event = time.monotonic()
            chart = progress(self.course, self.first, self.steps, self.symptoms)
            host.tell_pages(EVENT, {"node": self.node_id, "run": self.run.name, **chart})

    def saved(self) -> None:
        """Write the page and the table. If the disk refuses them, training continues."""
        try:
            self.table.write()
            write_page(self.run, self.course, self.pairs)
        except OSError:
            logging.exception("The page of run %s could not be written.", self.run.name)


class Table:
    """`log.csv` of a run: written once as a whole, then extended by new steps."""

    def __init__(self, run: Run, course: Course) -> None:
        self.path, self.course = run.folder / "log.csv", course
        self.written = self.continued()

    def continued(self) -> int:
        """How many of the log's steps the file has; 0 unless its last line is one of them."""
        if not self.path.exists():
            return 0
        with self.path.open("rb") as file:
            file.seek(-min(LONGEST_ROW, file.seek(0, os.SEEK_END)), os.SEEK_END)
            last = file.read().splitlines(keepends=True)[-1:]
        step = last[0].partition(b",")[0] if last else b""
        place = int(np.searchsorted(self.course.column("step"), int(step if step.isdigit() else 0)))
        if place < len(self.course) and as_csv(self.course, place, place + 1).encode() == last[0]:
            return place + 1
        return 0

    def write(self) -> None:
        """Add the new steps. Raises StorageError; then the next call writes the whole file."""
        continued, self.written = self.written, 0
        text = as_csv(self.course, continued).encode("utf-8")
        if continued and self.path.exists():
            with storing(self.path), self.path.open("ab") as file:
                file.write(text)
        else:
            write_atomically(self.path, as_csv(self.course).encode("utf-8"))
        self.written = len(self.course)


def progress(course: Course, first: int, steps: int, symptoms: Sequence[Symptom]) -> dict[str, Any]:
    """The chart of a log as JSON. The `first` entries are from before this start.

    `loss` has rows of step, loss, mean loss; `held_out` of step, change in percent and its bounds,
    null if unbounded. `memory` is in bytes, 0 if not counted.
    """
    last, tested = len(course) - 1, course.tested
    return {
        "step": course.step,
        "steps": steps,
        "learning_rate": known(course.number("learning_rate", last)),
        "memory": known(course.number("memory", last)),
        **pace(course, first, steps),
        "loss": [
            [
                int(course.number("step", place)),
                significant(course.number("loss", place)),
                significant(course.smoothed(place)),
            ]
            for place in thinned(len(course), MOST_POINTS)
        ],
        "held_out": [percentages(tested[i]) for i in thinned(len(tested), MOST_POINTS)],
        "findings": [{"kind": s.kind, "numbers": s.numbers, "text": s.text} for s in symptoms],
    }


def pace(course: Course, first: int, steps: int) -> dict[str, float]:
    """Seconds of a typical step, and seconds left, including measurements and samples.

    `seconds` in the log are counted from this start, just before the entry `first`.
    """
    count = len(course)
    recent = range(max(first, count - 21), count)
    clock = [known(course.number("seconds", place)) for place in recent]
    if count - first < 21:
        clock = [0.0, *clock]
    usual = median(after - before for before, after in pairwise(clock))
    left = (steps - course.step) * clock[-1] / (count - first)
    return {"seconds_per_step": significant(usual), "seconds_left": round(left)}


def known(value: float) -> float:
    """The value, or 0 if it was not measured: JSON has no NaN."""
    return value if math.isfinite(value) else 0.0


def percentages(tested: Tested) -> list[float | None]:
    values = (100 * value for value in interval_numbers(tested.change))
    return [tested.step, *(round(v, 2) if math.isfinite(v) else None for v in values)]


def significant(value: float) -> float:
    return float(f"{value:.4g}")
