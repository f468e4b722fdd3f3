"""The sizes of pictures in training and in tests of a LoRA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from ...dataset.copies import spread
from ...dataset.geometry import Size, bucket_size
from ...dataset.image import picture_size
from ...dataset.pair import Pair
from ...language import say
from ..config import TrainConfig

LOOKED_AT = 200  # pictures, evenly spaced, of a large set


@dataclass(frozen=True)
class Sizes:
    """Size limits: the result has at most the area of a square of `side` pixels.

    References have at most that of `reference_side`, or the result's own size if it is 0. Width and
    height are multiples of `multiple`; `square` crops the longer side first.
    """

    side: int
    reference_side: int = 0
    multiple: int = 16
    square: bool = False

    def fit(self, size: Size) -> tuple[Size, Size]:
        """Sizes of result and references for a picture of this size, which is never enlarged."""
        width, height = (min(size), min(size)) if self.square else size
        area = width * height
        fitted = bucket_size(width, height, min(self.side**2, area), self.multiple)
        if not self.reference_side:
            return fitted, fitted
        most = min(self.reference_side**2, area)
        return fitted, bucket_size(*fitted, most, self.multiple)


def training_sizes(config: TrainConfig, multiple: int, side: int = 0) -> Sizes:
    """The sizes that a run trains at; `side` is one of its resolutions, by default the first."""
    square = config.aspect == "square"
    return Sizes(side or config.sides[0], config.reference_resolution, multiple, square)


def too_small(pairs: Sequence[Pair], config: TrainConfig) -> list[str]:
    """A doubt if most targets have less than half the resolution, in each direction."""
    side = min(config.sides)
    sizes = {pair.stem: picture_size(pair.target) for pair in spread(pairs, LOOKED_AT)}
    small = [stem for stem, size in sizes.items() if prod(size) < side**2 / 4]
    if len(small) <= len(sizes) / 2:
        return []
    return [
        say(
            "{count} of {all} targets are much smaller than the resolution {side}: {name} has "
            "{width} × {height} pixels. Pictures are not enlarged, so the LoRA learns no more "
            "detail than they have. Use the full-size originals.",
            count=len(small),
            all=len(sizes),
            side=side,
            name=small[0],
            width=sizes[small[0]][0],
            height=sizes[small[0]][1],
        )
    ]
