"""The whole dataset, encoded before the first step."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from ...dataset.pair import Pair, PairedDataset
from ...language import say
from .. import host, parallel
from ..batch import EncodedPair
from ..loss.holdout import MOST_PAIRS
from .batches import Batches
from .cache import Cache


def encode_dataset(
    cache: Cache, pairs: PairedDataset, progress: host.Progress
) -> tuple[Batches, list[EncodedPair]]:
    """Batches to train on, and held-out pairs. Encodes what is not cached yet."""
    config = cache.config
    views = [*product(pairs.train, (False, True) if config.flip else (False,), config.sides)]
    held = [*product(pairs.holdout[:MOST_PAIRS], (False,), config.sides[:1])]
    encoded = encode_all(cache, views, progress)
    held_out = encode_all(cache, held, progress)
    if parallel.is_first():
        cache.shrink()
    repeats = [pair.repeats for pair, *_ in views]
    batches = Batches(encoded, repeats, config.batch_size, config.seed)
    return batches, held_out


def encode_all(
    cache: Cache, views: Sequence[tuple[Pair, bool, int]], progress: host.Progress
) -> list[EncodedPair]:
    """Encode `views` of pairs: (pair, mirrored, resolution).

    All images come first, then all captions, so that the VAE and the text encoders are loaded once.
    Several processes share the work.
    """
    share = parallel.mine(views)
    steps, count = cache.config.steps, len(share)
    for number, view in enumerate(share, start=1):
        text = say(
            "{steps} steps to come · encoding picture {number} of {count}",
            steps=steps,
            number=number,
            count=count,
        )
        progress.update(0, text)
        cache.encode_images(*view)
    encoded = []
    for number, view in enumerate(share, start=1):
        text = say(
            "{steps} steps to come · encoding caption {number} of {count}",
            steps=steps,
            number=number,
            count=count,
        )
        progress.update(0, text)
        encoded.append(cache.encode(*view))
    parallel.wait()
    # what the others have encoded is on disk by now: only look it up
    return encoded if share == views else [cache.encode(*view) for view in views]
