"""Small picture folders for the tests."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def picture(seed: int, size: tuple[int, int] = (32, 32)) -> Image.Image:
    """Smooth random colours: different seeds look nothing alike, even to a perceptual hash."""
    coarse = np.random.default_rng(seed).integers(0, 255, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def save(path: Path, seed: int = 0, size: tuple[int, int] = (32, 32)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed, size).save(path)
    return path


def save_both(base: Path, names: Iterable[str], suffix: str = ".png") -> Path:
    """`base`/before and `base`/after with a picture of each name."""
    for seed, name in enumerate(names):
        save(base / "before" / (name + suffix), 2 * seed)
        save(base / "after" / (name + suffix), 2 * seed + 1)
    return base
