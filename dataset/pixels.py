"""Conversion between pictures and arrays of floats."""

import numpy as np
from PIL import Image

from .image import to_rgb


def to_values(image: Image.Image) -> np.ndarray:
    """[H, W, 3] floats in 0..1."""
    return np.asarray(image.convert("RGB"), np.float32) / 255


def to_image(values: np.ndarray) -> Image.Image:
    """[H, W, C] floats in 0..1 (1, 3 or 4 channels) as an 8-bit RGB picture."""
    levels = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return to_rgb(Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels))
