"""Makes a control from a clean target: recipes of flaws, the same each time for a picture."""

import hashlib
from dataclasses import dataclass

import numpy as np

from .flaws import FLAWS, Picture


@dataclass(frozen=True)
class RecipeStep:
    """A flaw, how strong it is at recipe strength 1, and how often it occurs."""

    flaw: str
    weight: float = 1.0
    chance: float = 1.0


RECIPES: dict[str, tuple[RecipeStep, ...]] = {
    "product retouching": (
        RecipeStep("tarnish", 0.9),
        RecipeStep("stains", 0.5, 0.5),
        RecipeStep("flat light", 0.7),
        RecipeStep("dust", 0.7),
        RecipeStep("scratches", 0.6, 0.8),
        RecipeStep("noise", 0.25, 0.5),
    ),
    "texture enhancer": (
        RecipeStep("blur", 0.5, 0.7),
        RecipeStep("rescale", 0.6),
        RecipeStep("noise", 0.15, 0.4),
        RecipeStep("jpeg", 0.7, 0.7),
    ),
    "relight": (
        RecipeStep("flat light"),
        RecipeStep("colour cast", 0.7, 0.8),
        RecipeStep("uneven light", 0.5, 0.5),
        RecipeStep("fade", 0.3, 0.5),
    ),
    "old photo": (
        RecipeStep("blur", 0.3, 0.7),
        RecipeStep("fade", 0.8),
        RecipeStep("colour cast", 0.6, 0.7),
        RecipeStep("stains", 0.8, 0.8),
        RecipeStep("scratches", 0.8),
        RecipeStep("dust", 0.7),
        RecipeStep("noise", 0.5),
    ),
    **{name: (RecipeStep(name),) for name in FLAWS},
}
"""Presets first, then every single flaw under its own name."""


def degrade(
    picture: Picture, recipe: str, weakest: float, strongest: float, seed: int, stem: str
) -> Picture:
    """A degraded copy of [H, W, 3] in 0..1; strength 0 gives the picture itself.

    Its strength lies between `weakest` and `strongest`. The same (recipe, seed, stem) gives the
    same flaws, whatever other pictures there are.
    """
    own = _generator(seed, stem, recipe)
    strength = weakest + (strongest - weakest) * own.random()
    if strength == 0:
        return picture
    worse = picture
    for step in RECIPES[recipe]:
        rng = _generator(seed, stem, recipe, step.flaw)
        if rng.random() < step.chance:
            flawed = FLAWS[step.flaw](worse, strength * step.weight, rng)
            worse = np.clip(flawed, 0, 1).astype(np.float32)
    return worse


def _generator(*key: object) -> np.random.Generator:
    words = "\0".join(map(str, key)).encode("utf-8", "surrogatepass")
    return np.random.default_rng(int.from_bytes(hashlib.sha256(words).digest()[:8], "big"))
