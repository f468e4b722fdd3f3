"""A card for every pair with findings: control, target and where they differ, edged by severity."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageChops, ImageOps

from ..language import say
from .finding import EDGES, ERROR, NOTE, WARNING, Finding, kind_name
from .image import open_rgb
from .pair import DatasetError, Pair, PairedDataset
from .sheet import Card, contact_sheet

SIDE = 224


def finding_pages(
    dataset: PairedDataset, findings: Sequence[Finding], most: int = 48
) -> list[Image.Image]:
    """Pages with a card per pair that has a finding, worst first; none if there are none."""
    by_stem: dict[str, list[Finding]] = {}
    for finding in findings:
        for stem in finding.stems:
            by_stem.setdefault(stem, []).append(finding)
    marked = [pair for pair in dataset if pair.stem in by_stem]
    marked.sort(key=lambda pair: min(map(_rank, by_stem[pair.stem])))
    cards = [_card(pair, sorted(by_stem[pair.stem], key=_rank)) for pair in marked[:most]]
    return contact_sheet(cards, SIDE) if cards else []


def _card(pair: Pair, findings: Sequence[Finding]) -> Card:
    kinds = say(", ").join(dict.fromkeys(kind_name(finding.kind) for finding in findings))
    messages = " ".join(finding.message for finding in findings)
    edge = EDGES[findings[0].severity]
    return Card(f"{pair.stem}: {kinds}", _pictures(pair), messages, edge)


def _pictures(pair: Pair) -> tuple[Image.Image, ...]:
    shown = []
    for path in (*pair.controls[:1], pair.target):
        try:
            shown.append(ImageOps.contain(open_rgb(path), (SIDE, SIDE)))
        except DatasetError:
            shown.append(Image.new("RGB", (SIDE, SIDE), "#444444"))
    if len(shown) == 2:
        shown.append(_difference(*shown))
    return tuple(shown)


def _difference(control: Image.Image, target: Image.Image) -> Image.Image:
    """Three times the difference in brightness, white where nothing changed."""
    apart = ImageChops.difference(control.resize(target.size), target)
    grey = np.asarray(apart, np.float32).max(-1)
    return Image.fromarray((255 - np.clip(3 * grey, 0, 255)).astype(np.uint8)).convert("RGB")


def _rank(finding: Finding) -> int:
    return (ERROR, WARNING, NOTE).index(finding.severity)
