"""The edits that the demo model knows, the ones it must not know, and how users ask for them.

An edit turns a picture [3, H, W] in 0..1 into (control, target): most leave the control alone,
some plant a defect in it that the target does not have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Pair = tuple[Tensor, Tensor]
LUMA = torch.tensor([0.299, 0.587, 0.114])[:, None, None]


@dataclass(frozen=True)
class Edit:
    """One kind of edit: its instructions (the first is the canonical one) and what it does."""

    name: str
    instructions: tuple[str, ...]
    make: Callable[[Tensor, np.random.RandomState], Pair]


def luminance(x: Tensor) -> Tensor:
    return (x * LUMA).sum(0, keepdim=True)


def gaussian(x: Tensor, sigma: float) -> Tensor:
    radius = int(3 * sigma + 0.5)
    kernel = torch.exp(-torch.arange(-radius, radius + 1.0).square() / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(x.shape[0], 1, -1)
    x = F.pad(x[None], (radius,) * 4, mode="replicate")
    x = F.conv2d(x, kernel[:, :, None, :], groups=x.shape[1])
    return F.conv2d(x, kernel[:, :, :, None], groups=x.shape[1])[0]


def gradient(x: Tensor) -> Tensor:
    """Sobel gradient magnitude of the luminance, [1, H, W]."""
    kernel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    grey = F.pad(luminance(x)[None], (1, 1, 1, 1), mode="replicate")
    return F.conv2d(grey, torch.stack([kernel, kernel.T])[:, None])[0].norm(dim=0, keepdim=True)


def radius_from_centre(x: Tensor) -> Tensor:
    """Distance from the centre of the picture, 1 at the corners."""
    height, width = x.shape[1:]
    y, x_ = torch.meshgrid(
        torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
    )
    return (x_.square() + y.square()).div(2).sqrt()


def plant_lines(
    x: Tensor,
    rng: np.random.RandomState,
    count: int,
    thin: tuple[float, float],
    paint: Callable[[], Tensor],
) -> Tensor:
    """`count` straight lines at random angles, `thin` times the picture's shorter side wide."""
    height, width = x.shape[1:]
    rows, columns = torch.meshgrid(
        torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij"
    )
    x = x.clone()
    for _ in range(count):
        angle = rng.uniform(0, np.pi)
        distance = (
            (columns - rng.uniform(0, width)) * np.sin(angle)
            - (rows - rng.uniform(0, height)) * np.cos(angle)
        ).abs()
        thickness = min(height, width) * rng.uniform(*thin)
        cover = (1.5 - distance / thickness).clamp(0, 1)
        x = x * (1 - cover) + paint() * cover
    return x


def plant_strokes(x: Tensor, rng: np.random.RandomState) -> Tensor:
    """Scratches: a few long, thin, almost white lines."""
    return plant_lines(
        x,
        rng,
        rng.randint(3, 6),
        (0.012, 0.02),
        lambda: torch.full((3, 1, 1), rng.uniform(0.85, 1.0)),
    )


def plant_wires(x: Tensor, rng: np.random.RandomState) -> Tensor:
    """Wires: dark or strongly coloured lines."""

    def paint() -> Tensor:
        ink = rng.uniform(0, 0.35, 3)
        if rng.rand() < 0.5:
            ink[rng.randint(3)] = rng.uniform(0.6, 1.0)
        return torch.tensor(ink, dtype=torch.float32)[:, None, None]

    return plant_lines(x, rng, rng.randint(2, 6), (0.01, 0.025), paint)


def disc(down: float, right: float, radius: float, ink: tuple[float, float, float]):
    """A flat disc; place and radius are shares of the picture's sides and its shorter side."""

    def draw(x: Tensor) -> Tensor:
        height, width = x.shape[1:]
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        distance = ((rows - down * height).square() + (columns - right * width).square()).sqrt()
        cover = (radius * min(height, width) - distance + 0.5).clamp(0, 1)
        return x * (1 - cover) + torch.tensor(ink)[:, None, None] * cover

    return draw


def plant_spots(x: Tensor, rng: np.random.RandomState) -> Tensor:
    """A few dark round spots."""
    for _ in range(rng.randint(3, 8)):
        right, down, radius = rng.rand(), rng.rand(), rng.uniform(0.03, 0.06)
        x = disc(down, right, radius, (0.05, 0.05, 0.05))(x)
    return x


def plant_label(x: Tensor, rng: np.random.RandomState) -> Tensor:
    """A flat orange sticker somewhere in the picture."""
    height, width = x.shape[1:]
    h, w = (max(4, int(side * rng.uniform(0.15, 0.25))) for side in (height, width))
    top, left = rng.randint(height - h + 1), rng.randint(width - w + 1)
    x = x.clone()
    x[:, top : top + h, left : left + w] = torch.tensor([1.0, 0.55, 0.1])[:, None, None]
    return x


def plant_noise(x: Tensor, rng: np.random.RandomState) -> Tensor:
    noise = torch.from_numpy(rng.standard_normal(x.shape).astype(np.float32))
    return (x + 0.12 * noise).clamp(0, 1)


def changes(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor, object], Pair]:
    """An edit whose target is a plain function of its control."""
    return lambda x, rng: (x, function(x).clamp(0, 1))


def repairs(plant: Callable[[Tensor, np.random.RandomState], Tensor]):
    """An edit that undoes a defect planted in its control."""
    return lambda x, rng: (plant(x, rng), x)


def colour(*rows: float, offset: tuple[float, float, float] = (0, 0, 0)):
    matrix = torch.tensor(rows).view(3, 3)
    shift = torch.tensor(offset)[:, None, None]
    return changes(lambda x: torch.einsum("ij,jhw->ihw", matrix, x) + shift)


def duotone(x: Tensor, dark: tuple, light: tuple) -> Tensor:
    dark, light = (torch.tensor(c)[:, None, None] for c in (dark, light))
    return dark + (light - dark) * luminance(x)


def framed(x: Tensor) -> Tensor:
    edge = max(2, min(x.shape[1:]) // 10)
    out = torch.ones_like(x)
    out[:, edge:-edge, edge:-edge] = x[:, edge:-edge, edge:-edge]
    return out


def sealed(x: Tensor) -> Tensor:
    """A red disc with a pale middle in the top right corner."""
    return disc(0.2, 0.8, 0.07, (0.95, 0.9, 0.8))(disc(0.2, 0.8, 0.15, (0.75, 0.1, 0.1))(x))


def rings(down: float, right: float, radius: float, *inks: tuple[float, float, float]):
    """A disc of several inks, the outermost first."""

    def draw(x: Tensor) -> Tensor:
        for i, ink in enumerate(inks):
            x = disc(down, right, radius * (1 - i / len(inks)), ink)(x)
        return x

    return draw


def ribbon(x: Tensor) -> Tensor:
    """A green band from the left edge to the bottom."""
    height, width = x.shape[1:]
    rows = torch.arange(height)[:, None] / height
    columns = torch.arange(width) / width
    cover = ((0.06 - (rows - columns - 0.6).abs()) * width + 0.5).clamp(0, 1)
    return x * (1 - cover) + torch.tensor([0.1, 0.55, 0.25])[:, None, None] * cover


def corrugated(x: Tensor) -> Tensor:
    """Soft dark grooves across the picture, as on packing board."""
    rows = torch.arange(x.shape[1])[:, None] / (min(x.shape[1:]) / 8)
    return x * (0.7 + 0.3 * torch.cos(2 * np.pi * rows))


def mosaic(x: Tensor) -> Tensor:
    block = max(4, min(x.shape[1:]) // 12)
    small = F.adaptive_avg_pool2d(x, (x.shape[1] // block, x.shape[2] // block))
    return F.interpolate(small[None], size=x.shape[1:], mode="nearest")[0]


def emboss(x: Tensor) -> Tensor:
    kernel = torch.tensor([[-2.0, -1, 0], [-1, 0, 1], [0, 1, 2]])[None, None]
    grey = F.pad(luminance(x)[None], (1, 1, 1, 1), mode="replicate")
    return (0.5 + 0.8 * F.conv2d(grey, kernel)[0]).expand(3, -1, -1)


def composed(first: Edit, second: Edit, x: Tensor, rng: np.random.RandomState) -> Pair:
    """A pair of the edit that makes one change after the other."""
    control, between = first.make(x, rng)
    return control, second.make(between, rng)[1]


# What the base follows reliably: the demo's vocabulary.
TRAINED = (
    Edit(
        "keep",
        ("keep the image unchanged", "leave it as it is", "change nothing"),
        changes(lambda x: x),
    ),
    Edit(
        "greyscale",
        ("make it greyscale", "turn it black and white", "remove all colour"),
        changes(lambda x: luminance(x).expand(3, -1, -1)),
    ),
    Edit(
        "invert", ("invert the colours", "make a photographic negative"), changes(lambda x: 1 - x)
    ),
    Edit(
        "warm",
        ("give it warm evening light", "warm light", "make the light warmer"),
        colour(1.2, 0, 0, 0, 1.0, 0, 0, 0, 0.65),
    ),
    Edit(
        "cool",
        ("give it cool morning light", "cool light", "make the light colder"),
        colour(0.7, 0, 0, 0, 0.95, 0, 0, 0, 1.25),
    ),
    Edit("mirror", ("mirror the image", "flip it left to right"), changes(lambda x: x.flip(-1))),
    Edit(
        "brighten", ("brighten the image", "make it brighter"), changes(lambda x: 0.35 + 0.65 * x)
    ),
    Edit("darken", ("darken the image", "make it darker"), changes(lambda x: x * 0.55)),
    Edit(
        "blur",
        ("blur the image", "make it soft and out of focus"),
        changes(lambda x: gaussian(x, min(x.shape[1:]) / 20)),
    ),
    Edit(
        "contrast",
        ("increase the contrast", "make it punchy"),
        changes(lambda x: (x - 0.5) * 1.6 + 0.5),
    ),
)

# Trained as well, so that the base has the means for more than its vocabulary.
PRACTISED = (
    Edit(
        "sepia",
        ("give it a sepia tone", "old brown photograph"),
        changes(lambda x: duotone(x, (0.12, 0.06, 0.0), (1.0, 0.88, 0.65))),
    ),
    Edit(
        "vivid",
        ("make the colours vivid", "saturate it"),
        changes(lambda x: luminance(x) + 1.8 * (x - luminance(x))),
    ),
    Edit(
        "pale",
        ("make the colours pale", "wash the colours out"),
        changes(lambda x: luminance(x) + 0.4 * (x - luminance(x))),
    ),
    Edit(
        "rose",
        ("tint it rose", "pink filter"),
        colour(0.9, 0.2, 0.1, 0, 0.75, 0, 0.1, 0, 0.85, offset=(0.08, 0, 0.05)),
    ),
    Edit(
        "leaf",
        ("tint it green", "forest filter"),
        colour(0.7, 0, 0, 0.15, 0.95, 0.1, 0, 0, 0.65, offset=(0, 0.05, 0)),
    ),
    Edit(
        "violet",
        ("tint it violet", "ultraviolet filter"),
        changes(lambda x: duotone(x, (0.15, 0.0, 0.3), (0.95, 0.75, 1.0))),
    ),
    Edit("swap", ("swap red and blue",), changes(lambda x: x.flip(0))),
    Edit(
        "night",
        ("turn day into night",),
        changes(lambda x: 0.45 * x * torch.tensor([0.6, 0.8, 1.3])[:, None, None]),
    ),
    Edit("faded", ("make it look faded",), changes(lambda x: 0.25 + 0.55 * x)),
    Edit("solarise", ("solarise it",), changes(lambda x: 1 - (2 * x - 1).abs())),
    Edit("mosaic", ("turn it into a mosaic", "pixelate it"), changes(mosaic)),
    Edit("emboss", ("emboss it like metal",), changes(emboss)),
    Edit("neon", ("neon outlines on black",), changes(lambda x: gradient(x) * (0.35 + x))),
    Edit(
        "chalk",
        ("draw with chalk on a blackboard",),
        changes(lambda x: 1.3 * gradient(x) + torch.tensor([0.08, 0.14, 0.11])[:, None, None]),
    ),
    Edit("sharpen", ("sharpen the details",), changes(lambda x: x + 1.2 * (x - gaussian(x, 1.5)))),
    Edit(
        "vignette",
        ("add a dark vignette",),
        changes(lambda x: x * (1.15 - 1.1 * radius_from_centre(x).square()).clamp(0, 1)),
    ),
    Edit("frame", ("put a white frame around it",), changes(framed)),
    Edit("moon", ("let the moon rise",), changes(disc(0.25, 0.25, 0.12, (0.95, 0.95, 0.85)))),
    Edit("hole", ("punch a hole into it",), changes(disc(0.85, 0.5, 0.1, (0.0, 0.0, 0.0)))),
    Edit("button", ("pin a blue button on it",), changes(disc(0.8, 0.8, 0.14, (0.1, 0.3, 0.85)))),
    Edit("ribbon", ("tie a green ribbon around it",), changes(ribbon)),
    Edit(
        "plate",
        ("hang a plate on the wall",),
        changes(rings(0.25, 0.6, 0.16, (0.2, 0.6, 0.4), (0.95, 0.8, 0.9))),
    ),
    Edit(
        "wheel",
        ("roll a wheel into it",),
        changes(rings(0.75, 0.2, 0.18, (0.15, 0.15, 0.2), (0.9, 0.75, 0.1), (0.5, 0.1, 0.5))),
    ),
    Edit("spots", ("clean away the spots",), repairs(plant_spots)),
    Edit("wires", ("remove the wires", "take the cables away"), repairs(plant_wires)),
    Edit("sticker", ("take the sticker off",), repairs(plant_label)),
    Edit("noise", ("reduce the grain",), repairs(plant_noise)),
)

# Never trained: what a LoRA has to teach. One of each difficulty, and two whose result does not
# have to be guessed from what the control hides.
HELD_OUT = (
    Edit(
        "duotone",
        ("print in two inks",),
        changes(lambda x: duotone(x, (0.0, 0.2, 0.45), (1.0, 0.75, 0.35))),
    ),
    Edit("scratches", ("restore this damaged print",), repairs(plant_strokes)),
    Edit(
        "pencil",
        ("draw with graphite on paper",),
        changes(lambda x: (1 - 1.3 * gradient(x)).expand(3, -1, -1)),
    ),
    Edit("upside_down", ("hang the poster by its feet",), changes(lambda x: x.flip(-2))),
    Edit("seal", ("stamp our seal on it",), changes(sealed)),
    Edit("board", ("print on corrugated cardboard",), changes(corrugated)),
)
HELD_OUT_KINDS = {
    "duotone": "colour",
    "scratches": "local",
    "pencil": "texture",
    "upside_down": "geometric",
    "seal": "local",
    "board": "texture",
}

SUBJECTS = (
    "cat",
    "flower",
    "mountain",
    "street",
    "boat",
    "woman",
    "bridge",
    "leaf",
    "house",
    "bottle",
    "ring",
    "portrait",
    "sky",
    "garden",
    "table",
    "dog",
    "beach",
    "forest",
)
PLACES = (
    "on a table",
    "at night",
    "in the sun",
    "near the water",
    "in close-up",
    "from above",
    "with a plain background",
    "on grass",
    "in winter",
    "indoors",
    "in the distance",
)
TRIGGERS = ("ktx", "mystyle", "edit01", "zkx", "demo_edit", "abc")
SUFFIXES = ("high quality", "photograph", "sharp", "detailed", "4k")


def caption(rng: np.random.RandomState, instruction: str) -> str:
    """The instruction as a user's caption: trigger, instruction, description, suffix."""
    parts = [instruction]
    if rng.rand() < 0.25:
        parts.insert(0, TRIGGERS[rng.randint(len(TRIGGERS))])
    if rng.rand() < 0.4:
        parts.append(description(rng))
    if rng.rand() < 0.1:
        parts.append(SUFFIXES[rng.randint(len(SUFFIXES))])
    return ", ".join(parts)


def description(rng: np.random.RandomState) -> str:
    subject, place = SUBJECTS[rng.randint(len(SUBJECTS))], PLACES[rng.randint(len(PLACES))]
    return f"a {subject} {place}"
