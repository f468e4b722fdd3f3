"""Charts by matplotlib and tables as text, with fonts for English and Chinese."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING
from unicodedata import east_asian_width

import numpy as np
from PIL import Image

from ..dataset.sheet import label_font
from ..language import say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHINESE = "检查点"


@contextmanager
def lettering() -> Iterator[None]:
    """Inside, matplotlib draws with DejaVu, and Chinese with a font of the system."""
    from matplotlib import rc_context

    family = ["DejaVu Sans", *filter(None, [chinese_family()])]
    with rc_context({"font.family": family, "svg.fonttype": "none"}):
        yield


def drawn(figure: Figure) -> Image.Image:
    """The figure as an RGB picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


@cache
def chinese_family() -> str:
    """matplotlib's name of the system's font with Chinese letters; empty, and logged, if none."""
    from matplotlib import font_manager

    path = getattr(label_font(CHINESE, 12), "path", None)
    if not isinstance(path, str) or "DejaVu" in path:
        logging.warning(
            say(
                "No font with Chinese letters was found: charts show boxes in their place. "
                "Install Noto Sans CJK."
            )
        )
        return ""
    font_manager.fontManager.addfont(path)
    return font_manager.FontProperties(fname=path).get_name()


def aligned(table: Sequence[Sequence[str]]) -> str:
    """Rows of cells as text in aligned columns; Chinese characters are twice as wide."""
    widths = [max(map(width, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(
            cell + " " * (wide - width(cell)) for cell, wide in zip(row, widths, strict=True)
        ).rstrip()
        for row in table
    )


def width(text: str) -> int:
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)
