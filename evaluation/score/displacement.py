"""Whether results are aligned with their controls: edit LoRAs are known to shift or zoom.

Registered as Check Pairs does it (dataset/measure.py), by phase correlation of gradients. In tests
a known shift is found to half a pixel, a zoom to a tenth of it, a border to one pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
from PIL import Image

from ...dataset.check_pair import COMPARABLE, FAR, SHIFTED, ZOOMED
from ...dataset.measure import Grey, grey, offset
from ...language import say

FLAT = 2.0  # grey levels of 255: a line at the edge that varies no more counts as border
BORDERED = 4.0  # pixels; a narrower border is not worth mentioning


@dataclass(frozen=True)
class Displacement:
    """`shift` in pixels, `zoom` (1 = none, 1.02 = things are 2 % larger), and the width in pixels
    of a border that neither control nor target has. NaN if the pictures are too different to
    compare."""

    shift: float
    zoom: float
    border: float

    def remarks(self, base: Displacement) -> list[str]:
        """A sentence for each value that is too large, with the base model's value."""
        found = []
        if self.shift >= SHIFTED:
            found.append(
                say(
                    "It shifts the picture by {shift:.1f} px (base model: {base:.1f} px).",
                    shift=self.shift,
                    base=base.shift,
                )
            )
        if abs(self.zoom - 1) >= ZOOMED:
            found.append(
                say(
                    "It zooms the picture by {zoom:+.1%} (base model: {base:+.1%}).",
                    zoom=self.zoom - 1,
                    base=base.zoom - 1,
                )
            )
        if self.border >= BORDERED:
            found.append(
                say(
                    "It gives the picture a border of {border:.0f} px (base model: {base:.0f} px).",
                    border=self.border,
                    base=base.border,
                )
            )
        return found


UNKNOWN = Displacement(np.nan, np.nan, np.nan)


def displacement(result: Image.Image, control: Image.Image, target: Image.Image) -> Displacement:
    """The displacement of a result against its control. All three have the same size."""
    made, before, after = (grey(picture) for picture in (result, control, target))
    found = offset(before, made)
    believed = found.peak >= COMPARABLE and found.distance < FAR * max(made.shape)
    allowed = np.maximum(border_widths(before), border_widths(after))
    border = float(np.max(border_widths(made) - allowed, initial=0))
    if not believed:
        return Displacement(np.nan, np.nan, border)
    return Displacement(found.distance, found.zoom, border)


def border_widths(picture: Grey) -> np.ndarray:
    """The number of lines of one grey at the top, bottom, left and right [4], each at most half of
    the picture."""
    sides = (picture, picture[::-1], picture.T, picture.T[::-1])
    return np.array([_flat_lines(side[: len(side) // 2]) for side in sides])


def _flat_lines(lines: Grey) -> int:
    unlike = np.abs(lines - np.median(lines[0])).max(axis=1) > FLAT
    return int(np.argmax(unlike)) if unlike.any() else len(lines)


def typical(each: Sequence[Displacement]) -> Displacement:
    """The medians over those pictures that could be compared."""
    values = np.array([astuple(one) for one in each], dtype=np.float64).reshape(-1, 3)
    medians = [
        float(np.median(column[np.isfinite(column)])) if np.isfinite(column).any() else np.nan
        for column in values.T
    ]
    return Displacement(*medians)
