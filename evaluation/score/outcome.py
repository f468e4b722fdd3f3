"""The results of Score Checkpoints, as saved in a run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...files import read_json, understanding
from ...language import say


@dataclass(frozen=True)
class Outcome:
    """`best` is a file name, or None if no checkpoint could be recommended; `note` says why.

    `checkpoints` has verdict, gain, gain_low and gain_high by file name; bounds may be None.
    """

    best: str | None
    best_strength: float
    note: str
    checkpoints: Mapping[str, Mapping[str, Any]]


def outcome_of(folder: Path) -> Outcome | None:
    """The latest scores of the run in this folder; None before there are any.

    Raises DamagedFileError.
    """
    path = folder / "scores" / "scores.json"
    remedy = say("Run Score Checkpoints again; what it has measured is kept.")
    with understanding(path, remedy):
        content = read_json(path, {}, remedy)
        if not content:
            return None
        names = ("verdict", "gain", "gain_low", "gain_high")
        checkpoints = {
            str(each["file"]): {name: each[name] for name in names}
            for each in content.get("checkpoints", ())
        }
        best = None if content["best"] is None else str(content["best"])
        strength = float(content["best_strength"])
        return Outcome(best, strength, str(content.get("note", "")), checkpoints)
