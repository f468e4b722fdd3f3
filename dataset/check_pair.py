"""Checks of one pair's pictures. Thresholds: docs/guide/checks.md."""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from ..language import say
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
"""Shares of the longer side. Even a weak peak within NEARBY of zero shift is no accident (line art
of a photograph); no peak beyond FAR is believed."""

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
    """What the set-wide checks need to know of a pair, whose pictures are closed again.

    `worse` is "target" or "control" if that side is a degraded copy of the other, else "".
    """

    findings: tuple[Finding, ...]
    hashes: tuple[int, ...] = ()
    worse: str = ""


def look_at(pair: Pair) -> Look:
    """Check a pair's pictures, each on its own and against each other."""
    import imagehash

    try:
        target = open_rgb(pair.target)
        controls = [open_rgb(path) for path in pair.controls]
    except DatasetError as error:
        remedy = say("Training would stop at this picture.")
        return Look((Finding("unreadable", ERROR, str(error), remedy, (pair.stem,)),))
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
        same_shape = same_aspect(control.size, target.size)
        if control.size != target.size:
            sizes = say(
                "{control} is {size}, {target} is {other}.",
                control=path.name,
                size=_size(control),
                target=pair.target.name,
                other=_size(target),
            )
            findings.append(
                Finding("size", NOTE, sizes, say("Training scales both alike."), (pair.stem,))
                if same_shape
                else Finding(
                    "aspect",
                    ERROR,
                    f"{sizes} {say('Their shapes differ.')}",
                    say("Crop both alike from the originals."),
                    (pair.stem,),
                )
            )
    pixels = target.width * target.height
    if pixels < TRAINED_PIXELS:
        small = pixels < FEW_PIXELS
        findings.append(
            Finding(
                "low resolution",
                WARNING if small else NOTE,
                say("{name} has {size} pixels.", name=pair.target.name, size=_size(target)),
                say("Use the full-size original.")
                if small
                else say("Train at 512 or 768: pictures are not enlarged."),
                (pair.stem,),
            )
        )
    return findings


def _formats(pair: Pair) -> list[Finding]:
    found = {path: oddities(path) for path in (*pair.controls, pair.target)}
    remedy = say("It is used upright, in sRGB and over white: look at the sheet.")
    return [
        Finding("format", NOTE, f"{path.name}: {say(', ').join(what)}.", remedy, (pair.stem,))
        for path, what in found.items()
        if what
    ]


def _target_quality(pair: Pair, target: Image.Image) -> list[Finding]:
    measured, name = quality(target), pair.target.name
    flaws = {
        "blurred": (
            measured.sharpness < BLURRED,
            say(
                "The target {name} is blurred (sharpness {value:.0f}).",
                name=name,
                value=measured.sharpness,
            ),
        ),
        "noisy": (
            measured.noise > NOISY,
            say("The target {name} is noisy (noise {value:.1f}).", name=name, value=measured.noise),
        ),
        "JPEG blocks": (
            measured.blockiness > BLOCKY,
            say(
                "The target {name} shows JPEG blocks (block edges {value:.2f}).",
                name=name,
                value=measured.blockiness,
            ),
        ),
    }
    remedy = say("The LoRA learns to make pictures like it. Replace it, or leave the pair out.")
    return [
        Finding(kind, WARNING, message, remedy, (pair.stem,))
        for kind, (present, message) in flaws.items()
        if present
    ]


def _compare(pair: Pair, control: Image.Image, target: Image.Image) -> tuple[list[Finding], str]:
    after = measure.fitted(target)
    before = control.resize(after.size, Image.Resampling.LANCZOS)
    first, second = measure.grey(before), measure.grey(after)
    difference = measure.changed(before, after)
    if _same(before, after, difference):
        same = Finding(
            "identical",
            ERROR,
            say("{both} show the same picture: there is no edit.", both=_both(pair)),
            say("Put the edited picture in its place, or remove the pair."),
            (pair.stem,),
        )
        return [same], ""
    offset = measure.offset(first, second)
    findings = []
    near = offset.distance <= NEARBY * max(after.size)
    if offset.peak >= COMPARABLE and offset.distance < FAR * max(after.size):
        findings = _misplaced(pair, offset)
    elif not near and measure.likeness(first, second) < 0.3 and (difference > 16).mean() > 0.5:
        findings = [
            Finding(
                "everything changed",
                WARNING,
                say("{both} have almost nothing in common.", both=_both(pair)),
                say("Check that they belong together. If the edit is meant to do this, ignore it."),
                (pair.stem,),
            )
        ]
    return findings, _worse_side(control, target, first, second)


def same_picture(control: Image.Image, target: Image.Image) -> bool:
    """Whether both sides show the same picture: there is no edit."""
    if not same_aspect(control.size, target.size):
        return False
    after = measure.fitted(target)
    before = control.resize(after.size, Image.Resampling.LANCZOS)
    return _same(before, after, measure.changed(before, after))


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
            Finding(
                "zoomed",
                WARNING,
                say(
                    "{name} shows things at {zoom:.1%} of their size in the control.",
                    name=pair.target.name,
                    zoom=offset.zoom,
                ),
                say("Align both in an editor: the LoRA would learn to zoom."),
                (pair.stem,),
            )
        )
    if offset.distance >= SHIFTED:
        findings.append(
            Finding(
                "shifted",
                WARNING,
                say(
                    "{name} is shifted against its control: {ways}.",
                    name=pair.target.name,
                    ways=_ways(offset),
                ),
                say("The LoRA would learn to shift pictures. Crop & Resize Pairs can undo it."),
                (pair.stem,),
            )
        )
    return findings


def _worse_side(
    control: Image.Image, target: Image.Image, first: measure.Grey, second: measure.Grey
) -> str:
    """Which side is the other one degraded; "" unless the pictures otherwise agree."""
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
        return say("Control and target of {name}", name=pair.stem)
    return say("{one} and {other}", one=pair.controls[0].name, other=pair.target.name)


def _ways(offset: measure.Offset) -> str:
    ways = {
        say("{pixels:.1f} px down", pixels=offset.down): offset.down,
        say("{pixels:.1f} px up", pixels=-offset.down): -offset.down,
        say("{pixels:.1f} px right", pixels=offset.right): offset.right,
        say("{pixels:.1f} px left", pixels=-offset.right): -offset.right,
    }
    return say(", ").join(way for way, pixels in ways.items() if pixels >= 0.5)


def _size(image: Image.Image) -> str:
    return f"{image.width}×{image.height}"
