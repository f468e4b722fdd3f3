"""Labelled before/after sets made of real photographs, with defects planted where we know them."""

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from kontext.dataset.pair import Pair, PairedDataset
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps
from skimage import data

SIDE = 320
PHOTOS = (
    "astronaut chelsea coffee rocket camera brick grass gravel coins moon page retina "
    "immunohistochemistry hubble_deep_field"
).split()

Edit = Callable[[Image.Image, np.random.Generator], Image.Image]


@dataclass
class PlantedSet:
    """A dataset on disk and what was planted: pairs of (kind, stem)."""

    dataset: PairedDataset
    planted: set[tuple[str, str]] = field(default_factory=set)


def photographs() -> list[Image.Image]:
    """One square photograph per scene, at SIDE + 40 so that it can be shifted and cropped."""
    pictures = [Image.fromarray(getattr(data, name)()).convert("RGB") for name in PHOTOS]
    pictures.append(Image.fromarray(data.stereo_motorcycle()[0]).convert("RGB"))
    return [ImageOps.fit(picture, (SIDE + 40, SIDE + 40)) for picture in pictures]


def middle(photo: Image.Image, down: int = 0, right: int = 0) -> Image.Image:
    return photo.crop((20 - right, 20 - down, 20 - right + SIDE, 20 - down + SIDE))


# Real edits: the control of a good pair, made from its target.


def soft(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(1.5, 2.5)))


def grainy(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    noisy = np.asarray(image, float) + rng.normal(0, rng.uniform(10, 16), (SIDE, SIDE, 3))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def packed(image: Image.Image, rng: np.random.Generator, quality: int = 12) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def tinted(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    gain = rng.uniform(0.7, 1.2, 3)
    return Image.fromarray(np.clip(np.asarray(image) * gain, 0, 255).astype(np.uint8))


def flat(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(0.5)


def spotted(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    marked = image.copy()
    pen = ImageDraw.Draw(marked)
    for x, y in rng.integers(20, SIDE - 20, (12, 2)):
        pen.ellipse((x, y, x + 9, y + 9), tuple(rng.integers(0, 255, 3)))
    return marked


def covered(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    marked = image.copy()
    x, y = rng.integers(20, SIDE // 2, 2)
    ImageDraw.Draw(marked).rectangle((x, y, x + 110, y + 90), tuple(rng.integers(0, 255, 3)))
    return marked


DEGRADING: tuple[Edit, ...] = (soft, grainy, packed)
EDITS: tuple[Edit, ...] = (*DEGRADING, tinted, flat, spotted, covered)


def resized(image: Image.Image, zoom: float) -> Image.Image:
    """The same frame size, the content `zoom` times larger about the centre."""
    inset = SIDE / 2 * (1 - 1 / zoom)
    box = (inset, 0, inset)
    return image.transform(
        (SIDE, SIDE),
        Image.Transform.AFFINE,
        (1 / zoom, 0, box[0], 0, 1 / zoom, box[2]),
        Image.Resampling.BICUBIC,
    )


class _Writer:
    def __init__(self, folder: Path, names: tuple[str, str]) -> None:
        self.folders = [folder / name for name in names]
        for side in self.folders:
            side.mkdir(parents=True)
        self.pairs: list[Pair] = []

    def add(self, stem: str, control: Image.Image, target: Image.Image) -> Pair:
        paths = [side / f"{stem}.png" for side in self.folders]
        for image, path in zip((control, target), paths, strict=True):
            image.save(path, compress_level=1)
        pair = Pair(stem, (paths[0],), paths[1], "retouch the picture, a photograph")
        self.pairs.append(pair)
        return pair


def planted_sets(folder: Path, numbers: Iterable[int]) -> Iterator[PlantedSet]:
    """A set of 17 pairs per number, all edits and all pair defects in turn."""
    photos = photographs()
    for number in numbers:
        rng = np.random.default_rng(number)
        base = folder / f"set_{number:02}"
        writer, planted = _Writer(base, ("a", "b")), set()
        turn = rng.permutation(len(photos))
        for place, which in enumerate(turn):
            stem, photo = f"p{place:02}", photos[which]
            edit = EDITS[(number + place) % len(EDITS)]
            target = middle(photo)
            control = edit(target, rng)
            if place in (0, 1, 2):
                down, right = _vector(rng, 2 + 3 * place)
                target = middle(photo, down, right)
                planted.add(("shifted", stem))
            elif place == 3:
                target = middle(photo, *_vector(rng, 1))  # not enough to matter
            elif place == 4:
                target = resized(target, rng.choice([0.96, 0.97, 1.03, 1.05]))
                planted.add(("zoomed", stem))
            elif place in (5, 6):
                control = target if place == 5 else packed(target, rng, 92)
                planted.add(("identical", stem))
            elif place == 7:
                target = middle(photos[turn[place + 1]].rotate(90))
                planted.add(("everything changed", stem))
            writer.add(stem, control, target)
        _plant_copies(writer, photos, turn, planted, rng)
        (writer.folders[number % 2] / "alone.png").write_bytes(
            (writer.folders[0] / "p00.png").read_bytes()
        )
        planted.add(("orphan", "alone.png"))
        yield PlantedSet(PairedDataset(tuple(writer.pairs)), planted)


def _vector(rng: np.random.Generator, length: int) -> tuple[int, int]:
    return tuple(length * step for step in [(0, 1), (1, 0), (-1, 0), (0, -1)][rng.integers(4)])


def _plant_copies(writer, photos, turn, planted, rng) -> None:
    """Two pictures come a second time: re-saved, smaller, or cropped by a few pixels."""
    for place, again in ((9, lambda image: packed(image, rng, 60)),
                         (10, lambda image: image.crop((4, 4, SIDE - 4, SIDE - 4)))):  # fmt: skip
        first = writer.pairs[place]
        target = again(Image.open(first.target).convert("RGB"))
        copy = writer.add(f"copy_of_{first.stem}", spotted(target.resize((SIDE, SIDE)), rng)
                          .resize(target.size), target)  # fmt: skip
        planted.add(("duplicate", f"{first.stem} {copy.stem}"))


def swap_sets(folder: Path) -> Iterator[tuple[str, PlantedSet]]:
    """Sets that are right and sets with both sides exchanged; with the evidence there is."""
    photos = photographs()
    number = 0
    for names in (("a", "b"), ("before", "after"), ("remover_controls", "remover_images"),
                  ("修前", "修后"), ("input", "output")):  # fmt: skip
        for edit in (*DEGRADING, tinted):
            for captioned in (False, True):
                if names == ("a", "b") and edit is tinted and not captioned:
                    continue  # nothing tells these sides apart
                for exchanged in (False, True):
                    number += 1
                    rng = np.random.default_rng(number)
                    base = folder / f"swap_{number:02}"
                    writer = _Writer(base, names[::-1] if exchanged else names)
                    for place in range(6):
                        target = middle(photos[(number + 2 * place) % len(photos)])
                        sides = (edit(target, rng), target)
                        writer.add(f"p{place}", *(sides[::-1] if exchanged else sides))
                    if captioned:
                        beside = writer.folders[0 if exchanged else 1]
                        for place in range(6):
                            (beside / f"p{place}.txt").write_text("retouch", encoding="utf-8")
                    planted = {("swapped", "")} if exchanged else set()
                    evidence = f"{names[0]}/{names[1]}, {edit.__name__}, captions {captioned}"
                    yield evidence, PlantedSet(PairedDataset(tuple(writer.pairs)), planted)
