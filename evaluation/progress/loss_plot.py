"""The loss of a run as a picture."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ...language import say
from ..charts import drawn, lettering
from .curves import Course, Entry, Tested, smoothing_width, thinned
from .diagnosis import diagnose

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_POINTS = 1500  # per curve; more could not be seen
BLUE, PALE, GREEN, ORANGE, GREY = "#1f4e9c", "#9db4d6", "#2e8b57", "#b06a1e", "#888888"


def draw_loss(log: Iterable[Entry], checkpoints: Sequence[int], title: str) -> Image.Image:
    """Loss, held-out loss and learning rate over the steps of a log, with a mark at each checkpoint
    and the diagnosis."""
    with lettering():
        return drawn(loss_figure(Course(log), checkpoints, title, diagnosed=True))


def loss_svg(course: Course, checkpoints: Sequence[int], title: str) -> str:
    """The same without the diagnosis, as an <svg> element for a page."""
    text = io.StringIO()
    with lettering():
        loss_figure(course, checkpoints, title, diagnosed=False).savefig(text, format="svg")
    return text.getvalue().partition("<!DOCTYPE")[2].partition(">")[2].strip()


def loss_figure(course: Course, checkpoints: Sequence[int], title: str, diagnosed: bool) -> Figure:
    from matplotlib.figure import Figure

    tested = [course.tested[i] for i in thinned(len(course.tested), MOST_POINTS)]
    heights = [3, 2] if tested else [1]
    figure = Figure(figsize=(9, 7.2 if tested else 5), dpi=100, layout="constrained")
    panels = figure.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    draw_training(panels[0], course)
    if tested:
        draw_held_out(panels[1], tested)
    for axes in panels:
        for index, step in enumerate(checkpoints):
            label = say("saved checkpoint") if index == 0 else None
            axes.axvline(step, color=GREY, linewidth=0.8, linestyle=":", label=label)
    panels[0].legend(loc="upper right", fontsize=9, framealpha=0.9)
    if tested:
        panels[1].legend(loc="best", fontsize=9, framealpha=0.9)
    panels[-1].set_xlabel(say("step"))
    panels[0].set_title(title, parse_math=False)  # a run's name may hold dollar signs
    if diagnosed:
        text = "\n".join(fill(symptom.text, 115) for symptom in diagnose(course))
        figure.supxlabel(text, fontsize=10, x=0.02, ha="left", linespacing=1.4)
    return figure


def draw_training(axes: Axes, course: Course) -> None:
    """Loss of each step and its moving average; the learning rate on the right."""
    shown = thinned(len(course), MOST_POINTS)
    losses, rates = course.column("loss"), course.column("learning_rate")[shown]
    at = course.column("step")[shown]
    axes.plot(at, losses[shown], color=PALE, linewidth=0.6, label=say("each step"))
    width = smoothing_width(len(course))
    smooth = [course.smoothed(place) for place in shown]
    label = say("mean of {steps} steps", steps=width)
    axes.plot(at, smooth, color=BLUE, linewidth=2, label=label)
    axes.set_ylabel(say("training loss\n(error of the velocity, squared)"), color=BLUE)
    if len(course):
        axes.set_ylim(0, max(np.percentile(losses, 98), 1e-6) * 1.1)
    rate = axes.twinx()
    axes.plot([], [], color=ORANGE, linewidth=1, label=say("learning rate (right)"))
    rate.plot(at, rates, color=ORANGE, linewidth=1)
    rate.set_ylabel(say("learning rate (per step)"), color=ORANGE)
    rate.set_ylim(0, 1.25 * max(rates, default=0) or 1)
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))


def draw_held_out(axes: Axes, tested: Sequence[Tested]) -> None:
    """Change of the held-out loss against the base model's on the same pairs, noise and levels.

    The bars are 95 % intervals, paired over the pairs.
    """
    from matplotlib.ticker import PercentFormatter

    steps = [each.step for each in tested]
    changes = np.array([100 * each.change.mean for each in tested])
    pairs = len(tested[-1].losses)
    axes.axhline(0, color=GREY, linestyle="--", linewidth=1, label=say("base model"))
    if tested[-1].is_evidence:
        reach = [100 * (each.change.high - each.change.mean) for each in tested]
        reach = [each if math.isfinite(each) else 0.0 for each in reach]
        axes.errorbar(
            steps, changes, reach, color=GREEN, fmt="o-", linewidth=1.5, markersize=4, capsize=4,
            elinewidth=1, label=say("{pairs} held-out pairs, 95% interval", pairs=pairs),
        )  # fmt: skip
        # one wide interval, of the first measurement mostly, must not flatten the curve
        low, high = min(changes.min(), 0), max(changes.max(), 0)
        room = max(float(np.median(reach)), 0.15 * (high - low), 0.5) * 1.3
        axes.set_ylim(low - room, high + room)
    else:
        label = say("{pairs} of at least 3 held-out pairs: no evidence", pairs=pairs)
        axes.plot(steps, changes, "o:", color=GREEN, linewidth=1, markersize=4, label=label)
    axes.set_ylabel(say("held-out loss against\nthe base model"), color=GREEN)
    axes.yaxis.set_major_formatter(PercentFormatter(decimals=1))
