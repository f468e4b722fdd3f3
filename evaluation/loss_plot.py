"""The loss of a run as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..dataset.sheet import label_font
from .statistics import paired_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMOOTHING_SHARE = 0.05  # of the run's steps, the width of the moving average


def moving_average(values: Sequence[float], width: int) -> np.ndarray:
    """Mean of up to `width` values before and with each one."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - width)
    return (sums[ends] - sums[starts]) / (ends - starts)


def draw_loss(
    log: Sequence[Mapping[str, Any]], checkpoints: Sequence[int], title: str
) -> Image.Image:
    """Loss and learning rate over the steps of a log, with a mark at each saved checkpoint."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = [entry["step"] for entry in log]
    losses = [entry["loss"] for entry in log]
    width = max(1, round(len(steps) * SMOOTHING_SHARE))
    figure = Figure(figsize=(9, 5), dpi=100, layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="velocity loss (mean squared error)")
    axes.plot(steps, losses, color="#9db4d6", linewidth=0.6, alpha=0.7, label="each step")
    smooth = moving_average(losses, width)
    axes.plot(steps, smooth, color="#1f4e9c", linewidth=2, label=f"mean of {width} steps")
    for index, step in enumerate(checkpoints):
        label = "saved checkpoint" if index == 0 else None
        axes.axvline(step, color="#888888", linewidth=0.8, linestyle=":", label=label)
    tested = [entry for entry in log if "holdout" in entry]
    if tested:
        draw_held_out(axes, tested)
    if losses:
        axes.set_ylim(0, max(np.percentile(losses, 98), 1e-6) * 1.1)
    rate = axes.twinx()
    rate.plot(steps, [entry["learning_rate"] for entry in log], color="#d98c3f", linewidth=1)
    rate.set_ylabel("learning rate", color="#b06a1e")
    rate.set_ylim(bottom=0)
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    chinese = getattr(label_font(title, 12), "path", None)
    axes.set_title(title, font=Path(chinese) if isinstance(chinese, str) else None)
    axes.legend(loc="upper right")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def draw_held_out(axes: Axes, tested: Sequence[Mapping[str, Any]]) -> None:
    """Loss on pairs that were not trained on, beside the base model's on the very same questions.

    The bars are 95 % intervals of the difference to the base, paired over the pairs.
    """
    steps = [entry["step"] for entry in tested]
    base = np.asarray(tested[0]["holdout_base"])
    label = f"{len(base)} held-out pairs"
    axes.axhline(base.mean(), color="#2e8b57", linestyle="--", linewidth=1, label=f"{label}, base")
    means = [np.mean(entry["holdout"]) for entry in tested]
    axes.plot(steps, means, "o-", color="#2e8b57", linewidth=1.5, markersize=4, label=label)
    gains = [paired_interval(np.asarray(entry["holdout"]) - base) for entry in tested]
    if len(base) >= 3:  # with fewer there is no interval
        reach = [gain.high - gain.mean for gain in gains]
        axes.errorbar(steps, means, reach, fmt="none", color="#2e8b57", capsize=5, zorder=3)
