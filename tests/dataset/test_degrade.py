"""Flaws: repeatable, graded, and never a pixel out of place."""

import numpy as np
import pytest
from kontext.dataset import measure
from kontext.dataset.degrade import RECIPES, degrade
from kontext.dataset.flaws import FLAWS
from PIL import Image
from skimage import data

PHOTO = np.asarray(Image.fromarray(data.astronaut()).resize((256, 256)), np.float32) / 255
each = pytest.mark.parametrize("recipe", RECIPES)


def worse(recipe: str, strength: float, seed: int = 1, stem: str = "ring") -> np.ndarray:
    return degrade(PHOTO, recipe, strength, strength, seed, stem)


def difference(recipe: str, strength: float) -> float:
    apart = [np.abs(worse(recipe, strength, seed) - PHOTO).mean() for seed in range(4)]
    return float(np.mean(apart))


@each
def test_the_same_seed_and_stem_give_the_same_flaws(recipe: str):
    first = degrade(PHOTO, recipe, 0.2, 0.9, 7, "ring")
    np.testing.assert_array_equal(degrade(PHOTO, recipe, 0.2, 0.9, 7, "ring"), first)
    assert np.abs(degrade(PHOTO, recipe, 0.2, 0.9, 8, "ring") - first).max() > 0
    assert np.abs(degrade(PHOTO, recipe, 0.2, 0.9, 7, "chain") - first).max() > 0


@each
def test_stronger_is_worse_and_zero_is_nothing(recipe: str):
    assert difference(recipe, 0) == 0
    assert 0 < difference(recipe, 0.15) < difference(recipe, 0.5) < difference(recipe, 1)


@each
def test_the_result_is_a_picture(recipe: str):
    picture = worse(recipe, 1)
    assert picture.shape == PHOTO.shape and picture.dtype == np.float32
    assert picture.min() >= 0 and picture.max() <= 1 and picture.std() > 0.02


@each
def test_nothing_moves(recipe: str):
    image = Image.fromarray((worse(recipe, 0.5) * 255).astype(np.uint8))
    offset = measure.offset(
        measure.grey(Image.fromarray((PHOTO * 255).astype(np.uint8))), measure.grey(image)
    )
    assert offset.distance < 0.5 and offset.zoom == 1


def test_every_strength_of_the_range_occurs():
    """Weak flaws are covered too: over many stems the noise is spread over the range."""
    flat = np.full((64, 64, 3), 0.5, np.float32)
    levels = [degrade(flat, "noise", 0.1, 0.9, 0, str(i)).std() for i in range(60)]
    low, high = (degrade(flat, "noise", s, s, 0, "x").std() for s in (0.1, 0.9))
    assert min(levels) < low + 0.15 * (high - low) and max(levels) > high - 0.15 * (high - low)


@pytest.mark.parametrize(
    ("flaw", "measured", "sign"),
    [("blur", measure.sharpness, -1), ("rescale", measure.sharpness, -1),
     ("noise", measure.noise, 1), ("jpeg", measure.blockiness, 1), ("fade", np.std, -1)],
)  # fmt: skip
def test_a_flaw_is_what_it_says(flaw: str, measured, sign: int):
    """Reference: the measures that the checks use."""
    before, after = (
        measured(measure.grey(Image.fromarray((p * 255).astype(np.uint8))))
        for p in (PHOTO, np.clip(FLAWS[flaw](PHOTO, 0.6, np.random.default_rng(0)), 0, 1))
    )
    assert sign * (after - before) > 0.1 * before


def test_a_flaw_looks_alike_at_every_size():
    """Blur at twice the size has twice the radius: made small again, both agree."""
    large = np.asarray(Image.fromarray(data.astronaut()), np.float32) / 255
    small = degrade(PHOTO, "blur", 0.8, 0.8, 0, "x")
    blurred = Image.fromarray((degrade(large, "blur", 0.8, 0.8, 0, "x") * 255).astype(np.uint8))
    shrunk = np.asarray(blurred.resize((256, 256)), np.float32) / 255
    assert np.abs(shrunk - small).mean() < 0.01
