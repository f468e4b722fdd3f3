"""Make `sample_pairs/`: photographs, and the same photographs as faded, yellowed prints.

    python scripts/demo_model/sample_pairs.py

The photographs ship with scikit-image and matplotlib: astronaut (NASA, public domain), rocket
(SpaceX, CC0), chelsea and coffee (CC0), motorcycle (Middlebury stereo set, CC0), Grace Hopper (US
Navy, public domain).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SAMPLE_PAIRS = Path(__file__).resolve().parents[2] / "sample_pairs"
SIZE = 256
PAIRS = {"astronaut": 7, "chelsea": 6, "rocket": 5, "motorcycle": 6}
TEST = {"coffee": 2, "hopper": 2}  # photographs of which no pair is trained on


def main() -> None:
    rng = np.random.default_rng(7)
    photographs = load_photographs()
    for folder, counts in ((SAMPLE_PAIRS, PAIRS), (SAMPLE_PAIRS / "test", TEST)):
        for name, count in counts.items():
            for number, after in enumerate(crops(photographs[name], count, rng), 1):
                save(age(after, rng), folder / "before" / f"{name}_{number}.jpg")
                save(after, folder / "after" / f"{name}_{number}.jpg")
    test_names = sorted(path.name for path in (SAMPLE_PAIRS / "test" / "after").iterdir())
    rows = [f"before/{name},after/{name},holdout" for name in test_names]
    table = "\n".join(["control,target,split", *rows, ""])
    (SAMPLE_PAIRS / "test" / "metadata.csv").write_text(table, encoding="utf-8")


def load_photographs() -> dict[str, Image.Image]:
    import matplotlib.cbook
    from skimage import data

    names = ("astronaut", "chelsea", "rocket", "coffee")
    photographs = {name: Image.fromarray(getattr(data, name)()) for name in names}
    photographs["motorcycle"] = Image.fromarray(data.stereo_motorcycle()[0])
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        photographs["hopper"] = Image.open(file).convert("RGB")
    return photographs


def crops(photograph: Image.Image, count: int, rng: np.random.Generator) -> list[Image.Image]:
    """The largest centred square, then smaller squares placed at random, some mirrored."""
    width, height = photograph.size
    found = []
    for number in range(count):
        scale, x, y = (1, 0.5, 0.5) if number == 0 else (rng.uniform(0.55, 0.95), *rng.random(2))
        side = int(min(width, height) * scale)
        left, top = int((width - side) * x), int((height - side) * y)
        crop = photograph.crop((left, top, left + side, top + side))
        if number and rng.random() < 0.5:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        found.append(crop.resize((SIZE, SIZE), Image.Resampling.LANCZOS))
    return found


def age(photograph: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A print after decades: blacks lifted, colours faded and yellowed, some more than others."""
    pixels = np.asarray(photograph, np.float32) / 255
    grey = pixels.mean(axis=2, keepdims=True)
    faded = (grey + 0.55 * (pixels - grey)) * 0.6 + 0.28
    aged = faded * np.array((1.08, 0.98, 0.74), np.float32)
    years = rng.uniform(0.7, 1.0)
    mixed = pixels + years * (aged - pixels)
    return Image.fromarray((mixed * 255).round().clip(0, 255).astype(np.uint8))


def save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=88)


if __name__ == "__main__":
    main()
