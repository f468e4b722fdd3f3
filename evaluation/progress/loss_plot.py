"""The loss of a run as a picture."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ...dataset.sheet import label_font
from .curves import Entry, Tested, held_out, moving_average, smoothing_width, thinned
from .diagnosis import diagnose

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_POINTS = 1500  # more than that many steps are thinned out: no eye can tell
BLUE, PALE, GREEN, ORANGE, GREY = "#1f4e9c", "#9db4d6", "#2e8b57", "#b06a1e", "#888888"


def draw_loss(log: Sequence[Entry], checkpoints: Sequence[int], title: str) -> Image.Image:
    """Loss, held-out loss and learning rate over the steps of a log, a mark at each checkpoint,
    and what the curves say."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(loss_figure(log, checkpoints, title, diagnosed=True))
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def loss_svg(log: Sequence[Entry], checkpoints: Sequence[int], title: str) -> str:
    """The same without the words, as an <svg> element for a page."""
    from matplotlib import rc_context

    drawn = io.StringIO()
    with rc_context({"svg.fonttype": "none"}):
        loss_figure(log, checkpoints, title, diagnosed=False).savefig(drawn, format="svg")
    return drawn.getvalue().partition("<!DOCTYPE")[2].partition(">")[2].strip()


def loss_figure(
    log: Sequence[Entry], checkpoints: Sequence[int], title: str, diagnosed: bool
) -> Figure:
    from matplotlib.figure import Figure

    tested = held_out(log)
    heights = [3, 2] if tested else [1]
    figure = Figure(figsize=(9, 7.2 if tested else 5), dpi=100, layout="constrained")
    panels = figure.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    draw_training(panels[0], log)
    if tested:
        draw_held_out(panels[1], tested)
    for axes in panels:
        for index, step in enumerate(checkpoints):
            label = "saved checkpoint" if index == 0 else None
            axes.axvline(step, color=GREY, linewidth=0.8, linestyle=":", label=label)
    panels[0].legend(loc="upper right", fontsize=9, framealpha=0.9)
    if tested:
        panels[1].legend(loc="best", fontsize=9, framealpha=0.9)
    panels[-1].set_xlabel("step")
    chinese = getattr(label_font(title, 12), "path", None)
    font = Path(chinese) if isinstance(chinese, str) else None
    panels[0].set_title(title, font=font, parse_math=False)  # a run's name may hold dollar signs
    if diagnosed:
        words = "\n".join(fill(finding.text, 115) for finding in diagnose(log))
        figure.supxlabel(words, fontsize=10, x=0.02, ha="left", linespacing=1.4)
    return figure


def draw_training(axes: Axes, log: Sequence[Entry]) -> None:
    """Loss of each step and its moving average; the learning rate on the right."""
    steps = [entry["step"] for entry in log]
    losses = [entry["loss"] for entry in log]
    width = smoothing_width(len(steps))
    shown = thinned(len(steps), MOST_POINTS)
    at = [steps[i] for i in shown]
    axes.plot(at, [losses[i] for i in shown], color=PALE, linewidth=0.6, label="each step")
    smooth = moving_average(losses, width)[shown]
    axes.plot(at, smooth, color=BLUE, linewidth=2, label=f"mean of {width} steps")
    axes.set_ylabel("training loss\n(error of the velocity, squared)", color=BLUE)
    if losses:
        axes.set_ylim(0, max(np.percentile(losses, 98), 1e-6) * 1.1)
    rate = axes.twinx()
    rates = [log[i]["learning_rate"] for i in shown]
    axes.plot([], [], color=ORANGE, linewidth=1, label="learning rate (right)")
    rate.plot(at, rates, color=ORANGE, linewidth=1)
    rate.set_ylabel("learning rate (per step)", color=ORANGE)
    rate.set_ylim(0, 1.25 * max(rates, default=0) or 1)
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))


def draw_held_out(axes: Axes, tested: Sequence[Tested]) -> None:
    """Change of the loss on pairs that are not trained on, against the base model's on the very
    same questions. The bars are 95 % intervals, paired over the pairs."""
    from matplotlib.ticker import PercentFormatter

    steps = [each.step for each in tested]
    changes = np.array([100 * each.change.mean for each in tested])
    pairs = len(tested[-1].losses)
    axes.axhline(0, color=GREY, linestyle="--", linewidth=1, label="base model")
    label = f"{pairs} held-out pair{'s' * (pairs > 1)}"
    if math.isfinite(tested[-1].change.low):  # with fewer than 3 pairs there is no interval
        reach = [100 * (each.change.high - each.change.mean) for each in tested]
        axes.errorbar(
            steps, changes, reach, color=GREEN, fmt="o-", linewidth=1.5, markersize=4, capsize=4,
            elinewidth=1, label=f"{label}, 95 % interval",
        )  # fmt: skip
        # one wide interval, of the first measurement mostly, must not flatten the curve
        low, high = min(changes.min(), 0), max(changes.max(), 0)
        room = max(float(np.median(reach)), 0.15 * (high - low), 0.5) * 1.3
        axes.set_ylim(low - room, high + room)
    else:
        axes.plot(steps, changes, "o-", color=GREEN, linewidth=1.5, markersize=4, label=label)
    axes.set_ylabel("held-out loss against\nthe base model", color=GREEN)
    axes.yaxis.set_major_formatter(PercentFormatter(decimals=1))
