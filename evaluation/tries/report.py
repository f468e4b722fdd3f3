"""The results of the tries: a table, a chart, the best settings, and whether they differ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...files import storing, write_atomically, write_picture
from ...language import say
from ...trainer.config import TrainConfig
from ...trainer.request import TrainingError
from ...trainer.statistics import Interval, paired_interval
from ..charts import aligned, drawn, lettering
from .axes import Try
from .halving import behind, best_first, rounds
from .search import Search

HIGHEST = 0.2  # top of the chart, as a share of the base's loss: diverging tries leave it


@dataclass(frozen=True)
class Tried:
    """A try: the step it was trained to, its held-out change there, and how far it was behind the
    best try at that step (None for the best itself)."""

    which: Try
    step: int
    change: Interval
    behind: Interval | None

    @property
    def verdict(self) -> str:
        if not np.isfinite(self.change.mean):
            return say("diverged")
        if self.behind is None:
            return say("best")
        return say("worse") if self.behind.low > 0 else say("no clear difference")


@dataclass(frozen=True)
class Result:
    """All tries, the best first, and the curve of each: steps and changes."""

    tried: Sequence[Tried]
    courses: Sequence[tuple[Sequence[int], Sequence[float]]]

    @property
    def best(self) -> Try:
        return self.tried[0].which

    def settings(self, config: TrainConfig) -> TrainConfig:
        """These settings with the best values."""
        return config.replace(**self.best.changes)

    @property
    def verdict(self) -> str:
        best, second = self.tried[:2]
        ahead = second.behind
        if ahead is None or not np.isfinite(ahead.mean) or ahead.low > 0:
            return say("These differ: {best} is the best.", best=best.which.label)
        return say(
            "These do not differ clearly: {best} is ahead of {second} by {ahead:.1%} of the base's "
            "held-out loss ({low:.1%} to {high:.1%}). Either will do.",
            best=best.which.label, second=second.which.label, ahead=ahead.mean, low=ahead.low,
            high=ahead.high,
        )  # fmt: skip


def result(search: Search) -> Result:
    """The result of a search that has finished. Raises TrainingError if every try diverged."""
    known, planned = search.table(), rounds(len(search.tries), search.steps)
    order: list[int] = []
    for shares in reversed(known):  # tries that came further rank higher
        order += [place for place in best_first(shares) if place not in order]
    best, tried, courses = order[0], [], []
    for place in order:
        reached = [i for i, shares in enumerate(known) if place in shares]
        step, shares = planned[reached[-1]][1], known[reached[-1]]
        gap = behind(shares[place], shares[best]) if place != best else None
        change = paired_interval(np.subtract(shares[place], 1))
        tried.append(Tried(search.tries[place], step, change, gap))
        means = [float(np.mean(known[i][place])) - 1 for i in reached]
        courses.append(([planned[i][1] for i in reached], means))
    if not np.isfinite(tried[0].change.mean):
        raise TrainingError(
            say(
                "Every try diverged, so none can be recommended. Look for broken pictures among "
                "the pairs, and try lower learning rates under another name."
            )
        )
    return Result(tried, courses)


def as_table(found: Result) -> str:
    """A line for each try, and the verdict."""
    rows = [
        [
            say("try"),
            say("step"),
            say("held-out loss against the base"),
            say("behind the best"),
            say("verdict"),
        ]
    ]
    for each in found.tried:
        gap = between(each.behind) if each.behind else "-"
        rows.append([each.which.label, str(each.step), between(each.change), gap, each.verdict])
    return f"{aligned(rows)}\n\n{found.verdict}"


def between(interval: Interval) -> str:
    if not np.isfinite(interval.mean):
        return "-"
    numbers = {"mean": interval.mean, "low": interval.low, "high": interval.high}
    return say("{mean:+.1%} ({low:+.1%} to {high:+.1%})", **numbers)


def draw(found: Result) -> Image.Image:
    """The held-out loss of every try after each round; the best one thick."""
    with lettering():
        from matplotlib.figure import Figure
        from matplotlib.ticker import PercentFormatter

        figure = Figure((9, 5), dpi=100, layout="constrained")
        axes = figure.subplots()
        for place, (each, (steps, changes)) in enumerate(
            zip(found.tried, found.courses, strict=True)
        ):
            axes.plot(
                [0, *steps], [0.0, *changes], "o-", label=each.which.label,
                linewidth=1 if place else 3, zorder=1 if place else 2,
            )  # fmt: skip
        axes.set_ylim(top=min(axes.get_ylim()[1], HIGHEST))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel(say("step"))
        axes.set_ylabel(say("held-out loss against the base"))
        axes.grid(alpha=0.3)
        axes.legend()
        return drawn(figure)


def as_json(found: Result) -> dict[str, Any]:
    """For programs; what is not a number becomes null."""
    return {
        "best": dict(found.best.changes),
        "verdict": found.verdict,
        "tries": [
            {
                "changes": dict(each.which.changes),
                "step": each.step,
                "change": number(each.change.mean),
                "behind": number(each.behind.mean) if each.behind else 0.0,
                "behind_low": number(each.behind.low) if each.behind else 0.0,
            }
            for each in found.tried
        ],
    }


def number(value: float) -> float | None:
    return value if np.isfinite(value) else None


def write(found: Result, folder: Path) -> None:
    """Keep table, numbers and chart. Raises StorageError."""
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps(as_json(found), ensure_ascii=False, indent=1)
    write_atomically(folder / "tries.json", content.encode())
    write_atomically(folder / "tries.txt", as_table(found).encode())
    write_picture(folder / "tries.png", draw(found))
