"""Flaws to add to a clean picture. Each function maps [H, W, 3] floats in 0..1 to the same.

`strength` runs from 0 (invisible) to 1 (ruined); sizes scale with the picture, so that a flaw
looks alike at 512 and at 2048 pixels. Nothing moves: the control stays aligned with its target.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

from .pixels import to_image, to_values

Picture = np.ndarray
Flaw = Callable[[Picture, float, np.random.Generator], Picture]


def blur(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Gaussian, up to 6 pixels at 1024."""
    return ndimage.gaussian_filter(picture, (sigma := 6 * strength * _scale(picture), sigma, 0))


def rescale(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Scaled down by up to 8 and up again, one to three times."""
    height, width = picture.shape[:2]
    filters = (Image.Resampling.BOX, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)
    image = to_image(picture)
    for _ in range(int(rng.integers(1, 4))):
        factor = 1 + 7 * strength * rng.uniform(0.6, 1)
        small = max(1, round(width / factor)), max(1, round(height / factor))
        image = image.resize(small, filters[rng.integers(3)])
        image = image.resize((width, height), filters[1 + rng.integers(2)])
    return to_values(image)


def noise(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Sensor noise: grows with the root of the light, over a floor; partly the same in R, G, B."""
    deviation = 0.16 * strength * np.sqrt(0.25 + 0.75 * picture)
    shared = rng.standard_normal((*picture.shape[:2], 1))
    own = rng.standard_normal(picture.shape)
    return picture + deviation * (0.6 * shared + 0.8 * own)


def jpeg(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Quality 95 down to 5."""
    buffer = io.BytesIO()
    to_image(picture).save(buffer, "JPEG", quality=round(95 - 90 * strength))
    return to_values(Image.open(buffer))


def dust(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Specks and short hairs, light and dark."""
    page, pen, width, height = _overlay(picture)
    unit = max(1.0, 2.5 * _scale(picture))
    for _ in range(round(10 + 240 * strength)):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        radius = unit * rng.uniform(0.4, 1.0 + strength)
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), _grain(rng))
    for _ in range(round(8 * strength)):
        pen.line(_curve(rng, width, height, 0.06), _grain(rng), max(1, round(0.6 * unit)))
    return _over(picture, page, 0.25 + 0.65 * strength, 0.5 * unit)


def scratches(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Thin, nearly straight lines."""
    page, pen, width, height = _overlay(picture)
    unit = max(1.0, 1.6 * _scale(picture))
    for _ in range(round(3 + 37 * strength)):
        pen.line(_curve(rng, width, height, 0.35), _grain(rng), max(1, round(unit)))
    return _over(picture, page, 0.2 + 0.6 * strength, 0.35 * unit)


def stains(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Brownish, soft-edged blots with a darker rim, over a sixth of the picture."""
    height = _clouds(picture, rng, 6) - 0.85
    blot = np.clip(height * 6, 0, 1)
    rim = np.exp(-((height / 0.06) ** 2))
    cover = strength * (0.55 * blot + 0.35 * rim)
    return picture * (1 - cover[..., None] * (1 - np.array([0.62, 0.45, 0.25])))


def tarnish(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Dull, brown-grey patches that take the lustre from bright places first."""
    light = picture.mean(-1)
    patch = np.clip((_clouds(picture, rng, 8) - 0.1) * 0.9, 0, 1) * (0.35 + 0.65 * light)
    cover = (strength * patch)[..., None]
    dull = light[..., None] ** 1.4 * np.array([0.62, 0.55, 0.42])
    return picture * (1 - cover) + dull * cover


def cast(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """A colour cast: the channels gain up to ±35 % against each other."""
    gain = rng.uniform(-1, 1, 3)
    gain -= gain.mean()
    return picture * (1 + 0.35 * strength * gain / max(1e-6, np.abs(gain).max()))


def flat_light(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Flattens shading and highlights: divides by the coarse light and limits the whites."""
    light = ndimage.gaussian_filter(picture.mean(-1), 60 * _scale(picture)) + 0.05
    level = (light.mean() / light) ** (0.9 * strength)
    even = picture * level[..., None]
    return even - 0.35 * strength * np.clip(even - 0.6, 0, None)


def uneven_light(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Light from one side, falling off to a fifth at full strength."""
    height, width = picture.shape[:2]
    angle = rng.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[-0.5 : 0.5 : height * 1j, -0.5 : 0.5 : width * 1j]
    ramp = np.clip(0.5 + columns * np.cos(angle) + rows * np.sin(angle), 0, 1)
    return picture * (1 - 0.8 * strength * ramp[..., None])


def fade(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Contrast and colour lost, blacks lifted."""
    grey = picture.mean(-1, keepdims=True)
    pale = picture + 0.6 * strength * (grey - picture)
    return pale * (1 - 0.6 * strength) + 0.4 * strength


def banding(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Fewer tones: 64 per channel down to 6."""
    if strength == 0:
        return picture
    tones = round(2 ** (6 - 3.4 * strength)) - 1
    return np.rint(picture * tones) / tones


FLAWS: dict[str, Flaw] = {
    "blur": blur,
    "rescale": rescale,
    "noise": noise,
    "jpeg": jpeg,
    "dust": dust,
    "scratches": scratches,
    "stains": stains,
    "tarnish": tarnish,
    "colour cast": cast,
    "flat light": flat_light,
    "uneven light": uneven_light,
    "fade": fade,
    "banding": banding,
}


def _scale(picture: Picture) -> float:
    return min(picture.shape[:2]) / 1024


def _clouds(picture: Picture, rng: np.random.Generator, cells: int) -> np.ndarray:
    """[H, W] smooth random values with ever finer detail, median 0, mostly within -1..1."""
    size = picture.shape[1], picture.shape[0]
    total = np.zeros(picture.shape[:2], np.float32)
    for octave in range(4):
        side = cells * 2**octave
        coarse = Image.fromarray(rng.standard_normal((side, side)).astype(np.float32))
        total += 0.55**octave * np.asarray(coarse.resize(size, Image.Resampling.BICUBIC))
    return total


def _overlay(picture: Picture) -> tuple[Image.Image, ImageDraw.ImageDraw, int, int]:
    height, width = picture.shape[:2]
    page = Image.new("L", (width, height), 128)
    return page, ImageDraw.Draw(page), width, height


def _grain(rng: np.random.Generator) -> int:
    return int(rng.choice([0, 0, 255]))


def _curve(
    rng: np.random.Generator, width: int, height: int, longest: float
) -> list[tuple[float, float]]:
    x, y = rng.uniform(0, width), rng.uniform(0, height)
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 1) * longest * min(width, height)
    points = [(x, y)]
    for _ in range(8):
        angle += rng.normal(0, 0.12)
        x, y = x + np.cos(angle) * length / 8, y + np.sin(angle) * length / 8
        points.append((x, y))
    return points


def _over(picture: Picture, page: Image.Image, opacity: float, soft: float) -> Picture:
    """Lay marks (dark below 128, light above) over the picture."""
    marks = np.asarray(page.filter(ImageFilter.GaussianBlur(soft)), np.float32) / 127.5 - 1
    cover = opacity * np.abs(marks)[..., None]
    return picture * (1 - cover) + (marks > 0)[..., None] * cover
