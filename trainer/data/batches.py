"""Which pairs a step sees, and their tensors read from the cache."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain

import torch

from ..batch import EncodedPair, seeded


class Batches:
    """Every pair once per epoch (or as often as its repeats say), in batches of one shape.

    The order of an epoch follows from (seed, epoch), so that any step can be requested at any time:
    a resumed run needs no stored position.
    """

    def __init__(
        self, pairs: Sequence[EncodedPair], repeats: Sequence[int], size: int, seed: int
    ) -> None:
        self.size, self.seed = size, seed
        self.buckets: dict[tuple, list[EncodedPair]] = defaultdict(list)
        for pair, count in zip(pairs, repeats, strict=True):
            self.buckets[pair.bucket] += [pair] * count
        self.per_epoch = sum(-(-len(bucket) // size) for bucket in self.buckets.values())
        self.shuffled: tuple[int, list[list[EncodedPair]]] = (-1, [])

    def at(self, index: int) -> list[EncodedPair]:
        """Batch number `index` since the start of the run."""
        epoch, position = divmod(index, self.per_epoch)
        if self.shuffled[0] != epoch:
            self.shuffled = (epoch, self.epoch(epoch))
        return self.shuffled[1][position]

    def pairs(self) -> Iterator[EncodedPair]:
        """All pairs, each as often as it repeats."""
        return chain.from_iterable(self.buckets.values())

    def epoch(self, epoch: int) -> list[list[EncodedPair]]:
        generator = seeded(self.seed, epoch, "epoch")
        batches = []
        for bucket in self.buckets.values():
            order = torch.randperm(len(bucket), generator=generator).tolist()
            batches += [
                [bucket[i] for i in order[start : start + self.size]]
                for start in range(0, len(order), self.size)
            ]
        order = torch.randperm(len(batches), generator=generator).tolist()
        return [batches[i] for i in order]
