"""What is shown of a run while it goes on: its page and table on disk, the chart in ComfyUI."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from ...dataset.pair import PairedDataset
from ...trainer import host
from ...trainer.runs.run import Run
from ...trainer.watcher import Watcher
from .curves import (
    Entry,
    Tested,
    held_out,
    interval_numbers,
    moving_average,
    smoothing_width,
    thinned,
)
from .diagnosis import Finding, diagnose
from .run_page import write_report

EVENT = "kontext.progress"
SECONDS_BETWEEN = 0.5  # events
MOST_POINTS = 200  # of a curve in an event
DIAGNOSES = 50  # in a run, besides those after measuring the held-out pairs


class Follower(Watcher):
    """Writes `log.csv` and `run.html` at every checkpoint and tells ComfyUI's pages of the steps.

    Every event holds the whole chart, so that a page that was just opened has it too. Without a
    node there are none.
    """

    def __init__(self, pairs: PairedDataset, node_id: str | None = None) -> None:
        self.pairs, self.node_id = pairs, node_id

    def begin(self, run: Run) -> None:
        self.run, self.steps = run, run.config.steps
        self.log: list[Entry] = [*run.logged()]
        self.first, self.last_event = len(self.log), -math.inf
        self.findings = diagnose(self.log)

    def add(self, entry: Entry) -> None:
        self.log.append(entry)
        if not self.node_id:
            return
        tested = "holdout" in entry
        if tested or entry["step"] % max(1, self.steps // DIAGNOSES) == 0:
            self.findings = diagnose(self.log)
        due = time.monotonic() - self.last_event > SECONDS_BETWEEN
        if due or tested or entry["step"] == self.steps:
            self.last_event = time.monotonic()
            chart = progress(self.log, self.first, self.steps, self.findings)
            host.tell_pages(EVENT, {"node": self.node_id, "run": self.run.name, **chart})

    def saved(self) -> None:
        """Write the page and the table. Where the disk refuses them, training goes on."""
        try:
            write_report(self.run, self.log, self.pairs)
        except OSError:
            logging.exception("The page of run %s could not be written.", self.run.name)


def progress(
    log: Sequence[Entry], first: int, steps: int, findings: Sequence[Finding]
) -> dict[str, Any]:
    """The chart of a log as JSON. The `first` entries were there before this start.

    `loss` is rows of step, loss, mean loss; `held_out` of step and change in percent with its
    bounds, null where there are none. `memory` is bytes, 0 if not counted.
    """
    now, losses, tested = log[-1], [entry["loss"] for entry in log], held_out(log)
    smooth = moving_average(losses, smoothing_width(len(log)))
    return {
        "step": now["step"],
        "steps": steps,
        "learning_rate": now["learning_rate"],
        "memory": now["memory"],
        **pace(log[first:], steps),
        "loss": [
            [log[i]["step"], significant(losses[i]), significant(smooth[i])]
            for i in thinned(len(log), MOST_POINTS)
        ],
        "held_out": [percentages(tested[i]) for i in thinned(len(tested), MOST_POINTS)],
        "findings": [{"kind": f.kind, "numbers": f.numbers, "text": f.text} for f in findings],
    }


def pace(entries: Sequence[Mapping[str, Any]], steps: int) -> dict[str, float]:
    """Seconds of a usual step, and seconds left: with the tests and pictures still to come."""
    clock = [0.0, *(entry["seconds"] for entry in entries)]
    usual = median(after - before for before, after in pairwise(clock[-21:]))
    left = (steps - entries[-1]["step"]) * clock[-1] / len(entries)
    return {"seconds_per_step": significant(usual), "seconds_left": round(left)}


def percentages(tested: Tested) -> list[float | None]:
    values = (100 * value for value in interval_numbers(tested.change))
    return [tested.step, *(round(v, 2) if math.isfinite(v) else None for v in values)]


def significant(value: float) -> float:
    return float(f"{value:.4g}")
