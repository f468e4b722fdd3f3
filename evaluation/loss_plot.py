"""The loss of a run as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

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
    if losses:
        axes.set_ylim(0, max(np.percentile(losses, 98), 1e-6) * 1.1)
    rate = axes.twinx()
    rate.plot(steps, [entry["learning_rate"] for entry in log], color="#d98c3f", linewidth=1)
    rate.set_ylabel("learning rate", color="#b06a1e")
    rate.set_ylim(bottom=0)
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    axes.set_title(title)
    axes.legend(loc="upper right")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
