"""The photographs behind the demo model, and the crops cut from them.

Training photographs come from Debian packages; evaluation photographs from scikit-image,
scikit-learn and matplotlib, and are never shown to any network during training.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

Image.MAX_IMAGE_PIXELS = None
LONGEST_SIDE = 1400


@dataclass(frozen=True)
class Source:
    """Photographs of one Debian package: paths below its root, and their licence."""

    package: str
    licence: str
    root: str
    files: tuple[str, ...]


PLASMA = "usr/share/wallpapers"
DEBIAN = (
    Source(
        "gnome-taquin",
        "CC-BY-SA-3.0; Tortoiseshell: public domain",
        "usr/share/gnome-taquin/themes/cats",
        (
            "1-Cat_face_day.jpg",
            "1-Jasmina.jpg",
            "1-Tortoiseshell.jpg",
            "1-maine.jpg",
            "1-march.jpg",
        ),
    ),
    Source(
        "lomiri-wallpapers-16.04",
        "CC-BY-4.0, CC-BY-SA-4.0, CC0-1.0 by file",
        "usr/share/backgrounds",
        (
            "Bridge_by_Sander_Klootwijk.jpg",
            "Dragonfly_by_Bolly.jpg",
            "Picture_0B_by_freespace.jpg",
            "Picture_1A_by_freespace.jpg",
            "Wine_by_Jakkub_Mede.jpg",
            "aitzgorri_by_Aitzol_Berasategi.jpg",
            "analogpattern_by_Peter_Nerlich.jpg",
            "free_by_Peter_Nerlich.jpg",
            "friends_by_Aitzol_Berasategi.jpg",
            "greentock_by_Peter_Nerlich.jpg",
            "life_by_Aitzol_Berasategi.jpg",
            "picosdeeuropa_by_Aitzol_Berasategi.jpg",
            "seeding_by_Clements_Engelhardt.jpg",
            "sunset_by_Aitzol_Berasategi.jpg",
            "umang_by_Abhishek_Mudgal.jpg",
        ),
    ),
    Source(
        "lomiri-wallpapers-20.04",
        "CC-BY-SA",
        "usr/share/backgrounds",
        ("Kleiber_by_Lukas_Baubkus.jpg", "Painting-Colors_by__herobrine7gamer.jpg"),
    ),
    Source(
        "mate-backgrounds",
        "GPL-2.0-or-later",
        "usr/share/backgrounds/mate",
        (
            "nature/Aqua.jpg",
            "nature/Blinds.jpg",
            "nature/Dune.jpg",
            "nature/FreshFlower.jpg",
            "nature/Garden.jpg",
            "nature/GreenMeadow.jpg",
            "nature/LadyBird.jpg",
            "nature/RainDrops.jpg",
            "nature/Storm.jpg",
            "nature/TwoWings.jpg",
            "nature/Wood.jpg",
            "nature/YellowFlower.jpg",
            "abstract/Elephants.jpg",
        ),
    ),
    Source(
        "palapeli-data",
        "public domain, CC-BY-SA or GPL-2.0-or-later by file",
        "usr/share/palapeli/collection",
        (
            "cincinnati-bridge.jpg",
            "citrus-fruits.jpg",
            "european-honey-bee.jpg",
            "panther-chameleon-female.jpg",
        ),
    ),
    Source(
        "plasma-workspace-wallpapers",
        "LGPL-3.0; Volna: CC-BY-SA-4.0",
        PLASMA,
        tuple(
            f"{name}/contents/images/2560x1600.jpg"
            for name in (
                "Autumn",
                "BytheWater",
                "ColdRipple",
                "ColorfulCups",
                "DarkestHour",
                "EveningGlow",
                "FallenLeaf",
                "Grey",
                "Kite",
                "OneStandsOut",
                "Path",
                "summer_1am",
            )
        )
        + (
            "Volna/contents/images/5120x2880.jpg",
            "Patak/contents/images/5120x2880.png",
            "SafeLanding/contents/images/5120x2880.jpg",
        ),
    ),
)
SKIMAGE_TRAINING = ("brick", "grass", "gravel", "hubble_deep_field", "camera")
SKIMAGE_HELDOUT = ("astronaut", "chelsea", "coffee", "rocket")


def fetch(folder: Path) -> None:
    """Download and unpack the Debian packages into `folder` (needs apt-get and dpkg-deb)."""
    for source in DEBIAN:
        unpacked = folder / source.package
        if unpacked.exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", source.package], cwd=folder, check=True)
        archive = next(folder.glob(f"{source.package}_*.deb"))
        partial = folder / f"{source.package}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        subprocess.run(["dpkg-deb", "-x", str(archive), str(partial)], check=True)
        partial.rename(unpacked)


def _pixels(image: Image.Image) -> np.ndarray:
    image = image.convert("RGB")
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.asarray(image)


def training_photographs(folder: Path) -> list[np.ndarray]:
    """Every training photograph, [H, W, 3] uint8, at most 1400 pixels long."""
    from skimage import data

    files = [folder / s.package / s.root / name for s in DEBIAN for name in s.files]
    photographs = []
    for file in files:
        image = Image.open(file)
        image.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))
        photographs.append(_pixels(image))
    photographs += [_pixels(Image.fromarray(getattr(data, name)())) for name in SKIMAGE_TRAINING]
    return photographs


def heldout_photographs(everything: bool = True) -> dict[str, np.ndarray]:
    """Photographs no network was trained on; `everything=False` needs only scikit-image."""
    from skimage import data

    held = {name: _pixels(Image.fromarray(getattr(data, name)())) for name in SKIMAGE_HELDOUT}
    held["motorcycle"] = _pixels(Image.fromarray(data.stereo_motorcycle()[0]))
    if everything:
        import matplotlib.cbook
        from sklearn.datasets import load_sample_image

        with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
            held["grace_hopper"] = _pixels(Image.open(file))
        held["china"] = _pixels(Image.fromarray(load_sample_image("china.jpg")))
        held["flower"] = _pixels(Image.fromarray(load_sample_image("flower.jpg")))
    return held


def to_tensor(images: Sequence[np.ndarray]) -> torch.Tensor:
    """[H, W, 3] uint8 pictures of one size -> [B, 3, H, W] in 0..1."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def heldout_crops(
    size: int, per_photograph: int = 3, everything: bool = True, only: Sequence[str] = ()
) -> torch.Tensor:
    """Fixed square crops of the held-out photographs, [N, 3, size, size] in 0..1.

    The first crop of each photograph is its largest centred square, the rest are placed by a
    hash of the photograph's name.
    """
    crops = []
    for name, photograph in heldout_photographs(everything).items():
        if only and name not in only:
            continue
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
        rng = np.random.RandomState(seed)
        height, width = photograph.shape[:2]
        for i in range(per_photograph):
            side = min(height, width) if i == 0 else int(min(height, width) * rng.uniform(0.5, 0.9))
            left = (width - side) // 2 if i == 0 else rng.randint(width - side + 1)
            top = (height - side) // 2 if i == 0 else rng.randint(height - side + 1)
            crops.append(_resized(photograph, (left, top, left + side, top + side), size, size))
    return to_tensor(crops)


def _resized(photograph: np.ndarray, box: tuple[int, int, int, int], width: int, height: int):
    image = Image.fromarray(photograph).crop(box)
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0))


def random_crop(
    rng: np.random.RandomState, photographs: Sequence[np.ndarray], width: int, height: int
) -> np.ndarray:
    """One crop of a random photograph at a random scale, often mirrored, sometimes turned."""
    photograph = photographs[rng.randint(len(photographs))]
    full_height, full_width = photograph.shape[:2]
    largest = min(full_width / width, full_height / height)
    scale = np.exp(rng.uniform(np.log(max(1.0, 0.3 * largest)), np.log(max(1.01, largest))))
    scale = min(scale, largest)
    w, h = int(width * scale), int(height * scale)
    left, top = rng.randint(full_width - w + 1), rng.randint(full_height - h + 1)
    crop = _resized(photograph, (left, top, left + w, top + h), width, height)
    if rng.rand() < 0.5:
        crop = crop[:, ::-1]
    if width == height and rng.rand() < 0.1:
        crop = np.rot90(crop, rng.randint(4))
    return crop


def jitter_colours(rng: np.random.RandomState, image: np.ndarray) -> np.ndarray:
    """Random exposure, contrast, saturation and hue; rarely permuted or inverted channels."""
    x = image.astype(np.float32) / 255
    if rng.rand() < 0.15:
        x = x[..., rng.permutation(3)]
    if rng.rand() < 0.6:
        grey = x.mean(-1, keepdims=True)
        x = grey + (x - grey) * rng.uniform(0.3, 1.8)
    if rng.rand() < 0.6:
        x = (x - 0.5) * rng.uniform(0.6, 1.5) + 0.5 + rng.uniform(-0.15, 0.15)
    if rng.rand() < 0.5:
        x = x * rng.uniform(0.75, 1.25, 3)
    if rng.rand() < 0.07:
        x = 1 - x
    return (np.clip(x, 0, 1) * 255).astype(np.uint8)


def paste_shapes(rng: np.random.RandomState, image: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Cut part of another crop into this one, or draw flat shapes and thin lines over it."""
    picture, layer = Image.fromarray(image), Image.fromarray(other)
    width, height = picture.size
    if rng.rand() < 0.5:
        mask = Image.new("L", picture.size, 0)
        x0, y0 = rng.randint(width * 3 // 4), rng.randint(height * 3 // 4)
        box = (x0, y0, x0 + rng.randint(width // 5, width), y0 + rng.randint(height // 5, height))
        draw = ImageDraw.Draw(mask)
        (draw.ellipse if rng.rand() < 0.5 else draw.rectangle)(box, fill=255)
        picture.paste(layer, (0, 0), mask)
    else:
        draw = ImageDraw.Draw(picture)
        for _ in range(rng.randint(1, 5)):
            colour = tuple(int(c) for c in rng.randint(0, 256, 3))
            ends = [(int(rng.randint(width)), int(rng.randint(height))) for _ in range(2)]
            draw.line(ends, fill=colour, width=int(rng.randint(1, 4)))
    return np.asarray(picture)


def augmented_crop(
    rng: np.random.RandomState, photographs: Sequence[np.ndarray], width: int, height: int
) -> np.ndarray:
    """A training crop, [height, width, 3] uint8, with colours varied and rarely a collage."""
    crop = random_crop(rng, photographs, width, height)
    if rng.rand() < 0.15:
        crop = paste_shapes(rng, crop, random_crop(rng, photographs, width, height))
    return jitter_colours(rng, crop) if rng.rand() < 0.45 else np.ascontiguousarray(crop)
