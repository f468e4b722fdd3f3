"""What can be wrong with one pair's pictures. Thresholds: docs/guide/checks.md."""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from . import measure
from .finding import ERROR, NOTE, WARNING, Finding
from .geometry import same_aspect
from .image import oddities, open_rgb
from .pair import DatasetError, Pair

COMPARABLE = 20.0
"""Correlation peak above which a shift can be believed; unrelated pictures reach 18."""

SHIFTED = 1.75
"""Pixels; a shift of one pixel is below what the VAE's 8-pixel grid can pass on."""

NEARBY, FAR = 0.02, 0.15
"""Parts of the side. Even a weak peak this near to no shift is no accident (line art of a
photograph); no peak that far off is believed."""

ZOOMED = 0.004
BLURRED, NOISY, BLOCKY = 65.0, 6.5, 1.4
FEW_PIXELS, TRAINED_PIXELS = 512**2, 1024**2


@dataclass(frozen=True)
class Quality:
    sharpness: float
    noise: float
    blockiness: float


@dataclass(frozen=True)
class Look:
    """What the set-wide checks need of a pair once its pictures are closed again.

    `worse` is "target" or "control" if that side is the other one degraded, else "".
    """

    findings: tuple[Finding, ...]
    hashes: tuple[int, ...] = ()
    worse: str = ""


def look_at(pair: Pair) -> Look:
    """Open a pair's pictures and check them, one against the other and each on its own."""
    import imagehash

    try:
        target = open_rgb(pair.target)
        controls = [open_rgb(path) for path in pair.controls]
    except DatasetError as error:
        broken = Finding("unreadable", ERROR, str(error), "Training would stop here.", (pair.stem,))
        return Look((broken,))
    findings = [*_sizes(pair, controls, target), *_formats(pair), *_target_quality(pair, target)]
    worse = ""
    if controls and same_aspect(controls[0].size, target.size):
        found, worse = _compare(pair, controls[0], target)
        findings += found
    both = (*controls[:1], target)
    return Look(
        tuple(findings),
        tuple(int(str(imagehash.phash(image)), 16) for image in both),
        worse,
    )


def quality(image: Image.Image) -> Quality:
    values = measure.grey(measure.fitted(image))
    return Quality(measure.sharpness(values), measure.noise(values), measure.blockiness(values))


def _sizes(pair: Pair, controls: list[Image.Image], target: Image.Image) -> list[Finding]:
    findings = []
    for path, control in zip(pair.controls, controls, strict=True):
        sizes = f"{path.name} is {_size(control)}, {pair.target.name} is {_size(target)}"
        if not same_aspect(control.size, target.size):
            findings.append(
                Finding("aspect", ERROR, f"{sizes}: another shape.",
                        "Crop both alike from the originals.", (pair.stem,))
            )  # fmt: skip
        elif control.size != target.size:
            findings.append(
                Finding("size", NOTE, f"{sizes}.", "Training scales both alike.", (pair.stem,))
            )
    pixels = target.width * target.height
    if pixels < TRAINED_PIXELS:
        small = pixels < FEW_PIXELS
        findings.append(
            Finding("low resolution", WARNING if small else NOTE,
                    f"{pair.target.name} has {_size(target)} pixels.",
                    "Use the original in full size." if small
                    else "Train at 512 or 768, or expect it to be enlarged.", (pair.stem,))
        )  # fmt: skip
    return findings


def _formats(pair: Pair) -> list[Finding]:
    found = {path: oddities(path) for path in (*pair.controls, pair.target)}
    return [
        Finding("format", NOTE, f"{path.name}: {', '.join(what)}.",
                "Shown upright, in sRGB and over white; look at the sheet.", (pair.stem,))
        for path, what in found.items()
        if what
    ]  # fmt: skip


def _target_quality(pair: Pair, target: Image.Image) -> list[Finding]:
    measured, name = quality(target), pair.target.name
    flaws = {
        "blurred": (measured.sharpness < BLURRED, f"sharpness {measured.sharpness:.0f}"),
        "noisy": (measured.noise > NOISY, f"noise {measured.noise:.1f}"),
        "JPEG blocks": (measured.blockiness > BLOCKY, f"block edges {measured.blockiness:.2f}"),
    }
    return [
        Finding(kind, WARNING, f"The target {name} is {kind} ({value})." if kind != "JPEG blocks"
                else f"The target {name} shows JPEG blocks ({value}).",
                "The LoRA learns to make pictures like it. Replace it, or leave the pair out.",
                (pair.stem,))
        for kind, (present, value) in flaws.items()
        if present
    ]  # fmt: skip


def _compare(pair: Pair, control: Image.Image, target: Image.Image) -> tuple[list[Finding], str]:
    after = measure.fitted(target)
    before = control.resize(after.size, Image.Resampling.LANCZOS)
    first, second = measure.grey(before), measure.grey(after)
    difference = measure.changed(before, after)
    if _same(before, after, difference):
        same = Finding(
            "identical",
            ERROR,
            f"{_both(pair)} show the same: there is no edit.",
            "Put the edited picture in its place, or remove the pair.",
            (pair.stem,),
        )
        return [same], ""  # fmt: skip
    offset = measure.offset(first, second)
    findings = []
    near = offset.distance <= NEARBY * max(after.size)
    if offset.peak >= COMPARABLE and offset.distance < FAR * max(after.size):
        findings = _misplaced(pair, offset)
    elif not near and measure.likeness(first, second) < 0.3 and (difference > 16).mean() > 0.5:
        findings = [Finding("everything changed", WARNING,
                            f"{_both(pair)} have next to nothing in common.",
                            "Are they the same picture? If they are meant so, ignore this.",
                            (pair.stem,))]  # fmt: skip
    return findings, _worse_side(control, target, first, second)


def _same(before: Image.Image, after: Image.Image, difference: np.ndarray) -> bool:
    """Whether two pictures differ by no more than a JPEG of quality 90 does."""
    sharpness = measure.sharpness(measure.grey(after)) / measure.sharpness(measure.grey(before))
    coarse = [
        np.asarray(image.resize((16, 16), Image.Resampling.BOX), np.float32)
        for image in (before, after)
    ]
    return bool(
        difference.mean() < 1.7
        and difference.max() < 20
        and np.abs(coarse[0] - coarse[1]).mean() < 0.7
        and 1 / 1.2 < sharpness < 1.2
    )


def _misplaced(pair: Pair, offset: measure.Offset) -> list[Finding]:
    findings = []
    if abs(offset.zoom - 1) >= ZOOMED:
        findings.append(
            Finding("zoomed", WARNING,
                    f"{pair.target.name} shows things at {offset.zoom:.1%} of the control's size.",
                    "Align both in an editor: the LoRA would learn to zoom.", (pair.stem,))
        )  # fmt: skip
    if offset.distance >= SHIFTED:
        findings.append(
            Finding("shifted", WARNING,
                    f"{pair.target.name} is moved {_ways(offset)} against its control.",
                    "The LoRA would learn to move pictures. Crop & Resize Pairs can undo it.",
                    (pair.stem,))
        )  # fmt: skip
    return findings


def _worse_side(
    control: Image.Image, target: Image.Image, first: measure.Grey, second: measure.Grey
) -> str:
    """Which side is the other one degraded; told only of pictures that otherwise agree."""
    coarse = [ndimage.gaussian_filter(image, 4) for image in (first, second)]
    if np.abs(coarse[0] - coarse[1]).mean() > 6:
        return ""
    before, after = quality(control), quality(target)
    for one, other, margin in (
        (before.noise, after.noise, 4.0),
        (before.blockiness, after.blockiness, 0.25),
        (np.log2(after.sharpness + 1), np.log2(before.sharpness + 1), 1.0),
    ):
        if abs(one - other) > margin:
            return "control" if one > other else "target"
    return ""


def _both(pair: Pair) -> str:
    if pair.controls[0].name == pair.target.name:
        return f"Control and target of {pair.stem}"
    return f"{pair.controls[0].name} and {pair.target.name}"


def _ways(offset: measure.Offset) -> str:
    ways = [
        f"{abs(pixels):.1f} px {positive if pixels > 0 else negative}"
        for pixels, positive, negative in (
            (offset.down, "down", "up"),
            (offset.right, "right", "left"),
        )
        if abs(pixels) >= 0.5
    ]
    return " and ".join(ways)


def _size(image: Image.Image) -> str:
    return f"{image.width}×{image.height}"
