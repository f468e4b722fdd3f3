"""Summary of a dataset: its numbers in text, and a contact sheet."""

from collections import Counter
from collections.abc import Sequence

from PIL import Image

from ..language import say
from .geometry import bucket_size
from .image import picture_size, thumbnail
from .load import LoadedPairs
from .pair import Pair, PairedDataset
from .sheet import Card, contact_sheet
from .text import listed

SAMPLED = 500
"""Larger sets are measured on this many pairs, evenly spaced: a header read costs 0.1 ms."""


def describe(loaded: LoadedPairs, doubts: Sequence[str] = ()) -> str:
    """A text: pair counts, doubts, notes of the loader, sizes, buckets, captions."""
    dataset = loaded.dataset
    train, held = dataset.train, dataset.holdout
    lines = [
        say(
            "{count} pairs: {train} to train on, {held} held out",
            count=len(dataset),
            train=len(train),
            held=len(held),
        ),
        *(f"⚠ {doubt}" for doubt in doubts),
        *loaded.notes,
        *_sizes(dataset.pairs),
    ]
    distinct = len({pair.caption for pair in dataset if pair.caption})
    lines.append(say("Captions: {count} different", count=distinct))
    if any(pair.repeats > 1 for pair in dataset):
        repeats = Counter(pair.repeats for pair in dataset)
        counted = ", ".join(f"{n}× ({repeats[n]})" for n in sorted(repeats))
        lines.append(say("Repeats: {counted}", counted=counted))
    if held:
        names = listed([pair.stem for pair in held], most=50)
        lines.append(say("Held out: {names}", names=names))
    return "\n".join(lines)


def pair_cards(pairs: Sequence[Pair], side: int = 224) -> list[Card]:
    """A card per pair: controls, target, caption."""
    return [
        Card(
            f"{pair.stem}  ({say('held out')})" if pair.split == "holdout" else pair.stem,
            tuple(thumbnail(path, side) for path in (*pair.controls, pair.target)),
            pair.caption or say("no caption"),
        )
        for pair in pairs
    ]


def pages(dataset: PairedDataset, most: int) -> list[Image.Image]:
    """Contact sheet of the first `most` pairs: control | target | caption."""
    return contact_sheet(pair_cards(dataset.pairs[:most]))


def _sizes(pairs: Sequence[Pair]) -> list[str]:
    shown = pairs[:: -(-len(pairs) // SAMPLED)]
    sizes = Counter(picture_size(pair.target) for pair in shown)
    buckets: Counter[tuple[int, int]] = Counter()
    for (width, height), count in sizes.items():
        buckets[bucket_size(width, height, 1024**2, 64)] += count
    lines = [
        say("Target sizes: {counted}", counted=_counted(sizes)),
        say("Buckets at 1024²: {counted}", counted=_counted(buckets)),
    ]
    if len(shown) < len(pairs):
        lines[0] += " " + say("(of {count} pairs looked at)", count=len(shown))
    return lines


def _counted(sizes: Counter[tuple[int, int]]) -> str:
    return listed([f"{w}×{h} ({count})" for (w, h), count in sizes.most_common()], most=8)
