"""The pictures of the template browser: what each graph does to a picture, before beside after.

python scripts/graphs/thumbnails.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

ROOT = Path(__file__).resolve().parents[2]
SIDE = 600
# A sample pair for each graph, and what stands at its left and right
SHOWN = {
    "train_kontext_lora": ("test", "hopper_1", "before", "after"),
    "train_flux2_klein": ("", "rocket_3", "before", "after"),
    "train_qwen_image_edit": ("", "motorcycle_3", "before", "after"),
    "train_pictures": ("", "astronaut", "sheet", "sheet"),
    "train_and_keep": ("test", "coffee_1", "before", "after"),
    "use_kontext_lora": ("test", "coffee_1", "before", "after"),
    "compare_checkpoints": ("test", "coffee_2", "before", "after"),
    "choose_checkpoint": ("test", "hopper_2", "before", "after"),
    "prepare_pairs": ("", "motorcycle_1", "before", "after"),
    "caption_pairs": ("", "rocket_1", "before", "after"),
    "caption_tags": ("", "chelsea_1", "before", "after"),
    "make_control_group": ("", "astronaut_1", "after", "flaws"),
    "texture_enhancer_pairs": ("", "chelsea_2", "blurred", "after"),
    "train_style_lora": ("", "astronaut_2", "after", "inks"),
    "direct_style_transfer": ("test", "coffee_1", "after", "inks"),
    "indirect_style_transfer": ("test", "hopper_1", "lines", "inks"),
    "stack_loras": ("test", "hopper_2", "before", "inks"),
}


def main() -> None:
    for name, (folder, stem, left, right) in SHOWN.items():
        sides = [side(ROOT / "sample_pairs" / folder, stem, kind) for kind in (left, right)]
        split(*sides).save(ROOT / "workflows" / f"{name}.jpg", quality=80)


def side(folder: Path, stem: str, kind: str) -> Image.Image:
    """The before or after picture of a pair, or its after as a graph's recipe leaves it."""
    if kind == "sheet":
        return sheet(sorted((folder / "after").glob(f"{stem}*.jpg"))[:4])
    picture = Image.open(folder / ("before" if kind == "before" else "after") / f"{stem}.jpg")
    picture = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    grey = picture.convert("L")
    if kind == "inks":
        tone = np.asarray(grey, np.float32)[..., None] / 255
        dark, light = np.array([[24, 40, 104], [250, 226, 178]], np.float32)
        return Image.fromarray((dark + tone * (light - dark)).astype(np.uint8))
    if kind == "lines":
        edges = grey.filter(ImageFilter.GaussianBlur(2)).filter(ImageFilter.FIND_EDGES)
        return Image.eval(edges, lambda value: max(0, 255 - 6 * value)).convert("RGB")
    if kind == "blurred":
        return picture.filter(ImageFilter.GaussianBlur(9))
    if kind == "flaws":
        return grey.filter(ImageFilter.GaussianBlur(4)).convert("RGB")
    return picture


def sheet(paths: list[Path]) -> Image.Image:
    """Four pictures, two by two."""
    whole, half = Image.new("RGB", (SIDE, SIDE)), SIDE // 2
    for number, path in enumerate(paths):
        picture = Image.open(path).resize((half, half), Image.Resampling.LANCZOS)
        whole.paste(picture, (number % 2 * half, number // 2 * half))
    return whole


def split(left: Image.Image, right: Image.Image) -> Image.Image:
    """Left half of one picture, right half of the other, a white line between."""
    both = left.copy()
    both.paste(right.crop((SIDE // 2, 0, SIDE, SIDE)), (SIDE // 2, 0))
    ImageDraw.Draw(both).line((SIDE // 2, 0, SIDE // 2, SIDE), fill="white", width=4)
    return both


if __name__ == "__main__":
    sys.exit(main())
