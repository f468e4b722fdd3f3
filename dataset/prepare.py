"""Crop and resize both sides of a pair with one transform, into new files."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..language import say
from . import measure
from .check_pair import COMPARABLE
from .geometry import Box, Size, bucket_size, centred_box, resize_box, same_aspect
from .image import open_rgb
from .masks import open_mask
from .pair import DatasetError, Pair
from .store import write_pair

# The sizes Kontext was trained at (Black Forest Labs; ComfyUI's FluxKontextImageScale).
KONTEXT_SIZES = (
    (672, 1568), (688, 1504), (720, 1456), (752, 1392), (800, 1328), (832, 1248), (880, 1184),
    (944, 1104), (1024, 1024), (1104, 944), (1184, 880), (1248, 832), (1328, 800), (1392, 752),
    (1456, 720), (1504, 688), (1568, 672),
)  # fmt: skip

SQUARE = {"512 x 512": 512, "768 x 768": 768, "1024 x 1024": 1024}
KONTEXT, BUCKET, SHORTEST = "Kontext sizes", "bucket near its own shape", "shortest edge"
SIZES = (*SQUARE, KONTEXT, BUCKET, SHORTEST)
CENTRE, POINT, EDIT = "centre", "point", "edit"

LARGEST_SHIFT = 16.0
"""Pixels at 1024. A pair that lies further apart was not made from one picture by accident."""

EDITED = 24
"""Difference, of 255, from which a place counts as edited."""


@dataclass(frozen=True)
class Policy:
    """How pairs are cut. `point` is in fractions of the picture, from the top left."""

    size: str = BUCKET
    resolution: int = 1024
    pad: bool = False
    crop_at: str = CENTRE
    point: tuple[float, float] = (0.5, 0.5)
    undo_shift: bool = False
    linear_light: bool = False


def prepare(pair: Pair, policy: Policy, folder: Path, overwrite: bool) -> tuple[Pair, str]:
    """Write the prepared pair below `folder`; returns it and a line that says what was cut.

    Raises DatasetError if control and target have different shapes, or a file is in the way.
    """
    target = open_rgb(pair.target)
    controls = [open_rgb(path) for path in pair.controls]
    for path, control in zip(pair.controls, controls, strict=True):
        if not same_aspect(control.size, target.size):
            raise DatasetError(
                say(
                    "{path} ({size}) and {target} ({other}) have different shapes, so no crop fits "
                    "both. Leave the pair out, or cut both from the originals.",
                    path=path,
                    size=f"{control.width}x{control.height}",
                    target=pair.target,
                    other=f"{target.width}x{target.height}",
                )
            )
    mask = open_mask(pair.mask, pair.target, target.size) if pair.mask else None
    size = target_size(target.size, policy)
    if policy.pad:
        if mask:  # the page around it counts as little as black
            mask = ImageOps.invert(padded(ImageOps.invert(mask), size)).convert("L")
        images = [padded(image, size, policy.linear_light) for image in (*controls, target)]
        changes = [say("padded to {size}", size=_size(size))]
    else:
        boxes, changes = _boxes(controls, target, size, policy)
        images = [
            resize_box(image, box, size, policy.linear_light)
            for image, box in zip((*controls, target), boxes, strict=True)
        ]
        mask = resize_box(mask, boxes[-1], size) if mask else None
    written = write_pair(folder, pair.stem, images[:-1], images[-1], pair.caption, overwrite, mask)
    kept = replace(written, split=pair.split, repeats=pair.repeats)
    return kept, f"{pair.stem}: {_size(target.size)} {say(', ').join(changes)}"


def target_size(size: Size, policy: Policy) -> Size:
    """The size a picture of `size` is brought to."""
    width, height = size
    if policy.size in SQUARE:
        return SQUARE[policy.size], SQUARE[policy.size]
    if policy.size == KONTEXT:
        return min(KONTEXT_SIZES, key=lambda s: abs(np.log(s[0] / s[1] * height / width)))
    if policy.size == BUCKET:
        return bucket_size(width, height, policy.resolution**2)
    scale = policy.resolution / min(width, height)
    return round(width * scale / 16) * 16, round(height * scale / 16) * 16


def edited_box(control: Image.Image, target: Image.Image) -> Box | None:
    """Frame around what the edit changed, in fractions; None if that is next to nothing or all."""
    small = measure.fitted(target, 512)
    places = measure.changed(control.resize(small.size, Image.Resampling.LANCZOS), small) > EDITED
    if not 0.0005 < places.mean() < 0.6:
        return None
    rows, columns = np.nonzero(places)
    top, bottom = np.percentile(rows, (1, 99)) / places.shape[0]
    left, right = np.percentile(columns, (1, 99)) / places.shape[1]
    return float(left), float(top), float(right), float(bottom)


def box_around(point: tuple[float, float], size: Size, aspect: float, frame: Box) -> Box:
    """Largest box of `aspect` inside `frame`, as near to being centred on `point` as fits."""
    left, top, right, bottom = frame
    inside = (size[0] * (right - left), size[1] * (bottom - top))
    fraction = centred_box((1, 1), aspect / (inside[0] / inside[1]))
    width = (fraction[2] - fraction[0]) * (right - left)
    height = (fraction[3] - fraction[1]) * (bottom - top)
    x = min(max(point[0] - width / 2, left), right - width)
    y = min(max(point[1] - height / 2, top), bottom - height)
    return x, y, x + width, y + height


def padded(image: Image.Image, size: Size, linear_light: bool = False) -> Image.Image:
    """The whole picture in the middle of a white page of `size`."""
    scale = min(size[0] / image.width, size[1] / image.height)
    inner = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    page = Image.new("RGB", size, "white")
    small = resize_box(image, (0, 0, 1, 1), inner, linear_light)
    page.paste(small, ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2))
    return page


def _boxes(
    controls: Sequence[Image.Image], target: Image.Image, size: Size, policy: Policy
) -> tuple[list[Box], list[str]]:
    """A box for each control and for the target, and in words what they change."""
    across, down = 0.0, 0.0
    changes = []
    if policy.undo_shift and controls:
        across, down = _shift(controls[0], target)
        if across or down:
            changes.append(
                say(
                    "moved back {across:+.1f} px across, {down:+.1f} px down",
                    across=across * target.width,
                    down=down * target.height,
                )
            )
    frame = (max(0, -across), max(0, -down), min(1, 1 - across), min(1, 1 - down))
    point = policy.point if policy.crop_at == POINT else (0.5, 0.5)
    edit = edited_box(controls[0], target) if policy.crop_at == EDIT and controls else None
    if edit:
        point = (edit[0] + edit[2]) / 2, (edit[1] + edit[3]) / 2
    box = box_around(point, target.size, size[0] / size[1], frame)
    moved = (box[0] + across, box[1] + down, box[2] + across, box[3] + down)
    changes += [*_cut(box, target.size), say("resized to {size}", size=_size(size))]
    if edit and not (box[0] <= edit[0] and box[1] <= edit[1] and edit[2] <= box[2]
                     and edit[3] <= box[3]):  # fmt: skip
        changes.append(say("the edit is larger than the crop"))
    return [box] * len(controls) + [moved], changes


def _shift(control: Image.Image, target: Image.Image) -> tuple[float, float]:
    """Small shift of the target, in fractions (right, down); zero if it cannot be believed."""
    after = measure.fitted(target)
    before = control.resize(after.size, Image.Resampling.LANCZOS)
    offset = measure.offset(measure.grey(before), measure.grey(after))
    limit = LARGEST_SHIFT * max(after.size) / measure.SIDE
    believed = offset.peak >= COMPARABLE and offset.zoom == 1
    if not believed or not 0.25 <= offset.distance <= limit:
        return 0.0, 0.0
    return offset.right / after.width, offset.down / after.height


def _cut(box: Box, size: Size) -> list[str]:
    sides = {
        say("left"): box[0] * size[0],
        say("top"): box[1] * size[1],
        say("right"): (1 - box[2]) * size[0],
        say("bottom"): (1 - box[3]) * size[1],
    }
    cut = [f"{name} {round(pixels)}" for name, pixels in sides.items() if round(pixels)]
    return [say("cut {sides} px", sides=say(", ").join(cut))] if cut else []


def _size(size: Size) -> str:
    return f"{size[0]}×{size[1]}"
