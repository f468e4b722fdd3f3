"""A run's log: one JSON line per step."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ...lines import Lines


def log_lines(folder: Path, only: bytes = b"") -> Lines[dict[str, Any]]:
    """The log of the run in this folder; with `only`, the steps whose lines contain it."""
    return Lines(folder / "log.jsonl", logged_step, only)


def logged_step(entry: dict[str, Any]) -> dict[str, Any]:
    """The log entry. Raises KeyError, TypeError or ValueError if it is not a valid step."""
    if type(entry["step"]) is not int:
        raise TypeError("the step is not a whole number")
    optional = ("learning_rate", "grad_norm", "seconds", "memory")
    numbers = [entry["loss"], *(entry.get(name) or 0 for name in optional)]
    numbers += [*entry.get("holdout", ()), *entry.get("holdout_base", ())]
    if not all(type(number) in (int, float) for number in numbers):
        raise TypeError("not all measurements are numbers")
    if not math.isfinite(entry["loss"]):
        raise ValueError("the loss is no finite number")
    if len(entry.get("holdout", ())) != len(entry.get("holdout_base", ())):
        raise ValueError("not as many held-out losses as of the base")
    return entry
