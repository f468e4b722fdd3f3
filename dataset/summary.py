"""The numbers a user wants first, and the first look at the pairs."""

from collections import Counter
from collections.abc import Sequence

from PIL import Image

from .geometry import bucket_size
from .image import picture_size, thumbnail
from .load import LoadedPairs
from .pair import Pair, PairedDataset
from .sheet import Card, contact_sheet

STEPS_PER_PAIR, FEWEST_STEPS = 100, 1500
SAMPLED = 500
"""Larger sets are measured on this many pairs, evenly spaced: a header read costs 0.1 ms."""


def describe(loaded: LoadedPairs) -> str:
    """Pairs, hold-out, suggested steps, sizes, buckets and captions, then every note."""
    dataset = loaded.dataset
    train, held = dataset.train, dataset.holdout
    steps = max(FEWEST_STEPS, STEPS_PER_PAIR * len(train))
    lines = [
        f"{len(dataset)} pairs: {len(train)} to train on, {len(held)} held out",
        f"Suggested steps: {steps:,} ({STEPS_PER_PAIR} per pair, at least {FEWEST_STEPS:,})",
        *_sizes(dataset.pairs),
        _captions(dataset.pairs),
    ]
    if any(pair.repeats > 1 for pair in dataset):
        repeats = Counter(pair.repeats for pair in dataset)
        lines.append("Repeats: " + ", ".join(f"{n}× ({repeats[n]})" for n in sorted(repeats)))
    if held:
        lines.append("Held out: " + ", ".join(pair.stem for pair in held))
    return "\n".join([*lines, *loaded.notes])


def pair_cards(pairs: Sequence[Pair], side: int = 224) -> list[Card]:
    """A card per pair: controls, target, caption."""
    return [
        Card(
            f"{pair.stem}  (held out)" if pair.split == "holdout" else pair.stem,
            tuple(thumbnail(path, side) for path in (*pair.controls, pair.target)),
            pair.caption or "no caption",
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
    sample = f" (of {len(shown)} pairs looked at)" if len(shown) < len(pairs) else ""
    return [f"Target sizes: {_counted(sizes)}{sample}", f"Buckets at 1024²: {_counted(buckets)}"]


def _counted(sizes: Counter[tuple[int, int]]) -> str:
    named = [f"{w}×{h} ({count})" for (w, h), count in sizes.most_common(8)]
    return ", ".join(named) + (f" and {len(sizes) - 8} more" if len(sizes) > 8 else "")


def _captions(pairs: Sequence[Pair]) -> str:
    empty = [pair.stem for pair in pairs if not pair.caption]
    distinct = len({pair.caption for pair in pairs})
    if not empty:
        return f"Captions: {distinct} different"
    return f"Captions: {len(empty)} pairs have none: {', '.join(empty)}"
