"""One geometry for both sides of a pair: the same crop, the same scale, never stretched."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

Size = tuple[int, int]
Box = tuple[float, float, float, float]

SAME_ASPECT = 0.01
"""Relative difference of aspect up to which two pictures count as the same frame."""


def bucket_size(width: int, height: int, pixels: int, multiple: int = 16) -> Size:
    """(width, height) in multiples of `multiple`, of about the given aspect, at most `pixels`.

    Of the sizes with at least four fifths of `pixels`, the one nearest in aspect and, among equals,
    the largest. Very long pictures fall below that to keep their shape.
    """
    if min(width, height, pixels) <= 0:
        raise ValueError(f"No bucket for {width}x{height} at {pixels} pixels.")
    aspect = width / height
    ideal = math.sqrt(pixels * aspect)
    candidates: list[tuple[float, int, int]] = []
    for columns in range(max(1, int(0.85 * ideal / multiple)), int(1.1 * ideal / multiple) + 2):
        nearest, most = columns / aspect, pixels // (columns * multiple * multiple)
        for rows in {max(1, math.floor(nearest)), math.ceil(nearest), max(1, most)}:
            area = columns * rows * multiple * multiple
            if area <= pixels:
                stretch = abs(math.log(columns / rows / aspect))
                shortfall = math.log(pixels / area)
                cost = stretch + 0.05 * shortfall + max(0.0, shortfall - math.log(1.25))
                candidates.append((cost, columns * multiple, rows * multiple))
    if not candidates:
        return multiple, multiple
    _, best_width, best_height = min(candidates)
    return best_width, best_height


def centred_box(size: Size, aspect: float) -> Box:
    """Largest centred box of `aspect` (width / height), in fractions of `size`."""
    own = size[0] / size[1]
    width, height = min(1.0, aspect / own), min(1.0, own / aspect)
    return (1 - width) / 2, (1 - height) / 2, (1 + width) / 2, (1 + height) / 2


def same_aspect(first: Size, second: Size) -> bool:
    """Whether two pictures can show the same frame, up to a pixel of rounding."""
    ratio = (first[0] * second[1]) / (first[1] * second[0])
    rounding = 1 / min(*first, *second)
    return abs(math.log(ratio)) <= max(SAME_ASPECT, rounding)


def crop_alike(images: Sequence[Image.Image], sizes: Sequence[Size]) -> list[Image.Image]:
    """Crop all pictures by one relative box, centred, of the aspect of `sizes[0]`; then resize.

    Pictures that differ from the first in pixel size but not in aspect stay aligned with it to a
    fraction of a pixel. One of another aspect (a reference that is not the same frame) is cropped
    to the aspect of its own size instead of being stretched.
    """
    shared = centred_box(images[0].size, sizes[0][0] / sizes[0][1])
    boxes = [
        shared if same_aspect(images[0].size, image.size) else centred_box(image.size, w / h)
        for image, (w, h) in zip(images, sizes, strict=True)
    ]
    return [
        resize_box(image, box, size) for image, box, size in zip(images, boxes, sizes, strict=True)
    ]


def resize_box(image: Image.Image, box: Box, size: Size, linear_light: bool = False) -> Image.Image:
    """The part of `image` inside `box` (fractions, may fall between pixels) at `size`, Lanczos.

    On the stored sRGB values, as trainers and editors do; with `linear_light` on light itself,
    which keeps the brightness of fine bright detail (IEC 61966-2-1).
    """
    left, top, right, bottom = box
    pixels = (
        max(left * image.width, 0),
        max(top * image.height, 0),
        min(right * image.width, image.width),
        min(bottom * image.height, image.height),
    )
    if size == image.size and pixels == (0, 0, *image.size):
        return image.copy()
    if not linear_light:
        return image.resize(size, Image.Resampling.LANCZOS, box=pixels, reducing_gap=None)
    light = _to_light(np.asarray(image, np.float32) / 255)
    channels = [
        Image.fromarray(light[..., i]).resize(size, Image.Resampling.LANCZOS, box=pixels)
        for i in range(3)
    ]
    values = _from_light(np.clip(np.stack([np.asarray(c) for c in channels], -1), 0, 1))
    return Image.fromarray(np.rint(values * 255).astype(np.uint8))


def _to_light(values: np.ndarray) -> np.ndarray:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _from_light(light: np.ndarray) -> np.ndarray:
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
