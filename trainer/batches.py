"""Which pairs a step sees, and their tensors read from the cache."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor


@dataclass(frozen=True)
class Text:
    """Encoded captions: `cond` [B, tokens, channels] and `pooled` [B, channels]."""

    cond: Tensor
    pooled: Tensor


@dataclass(frozen=True)
class EncodedPair:
    """Where a pair's encoded parts lie, and the shapes that a batch must share."""

    stem: str
    target: Path
    references: tuple[Path, ...]
    text: Path
    shape: tuple[tuple[int, ...], ...]
    mask: Path | None = None


@dataclass(frozen=True)
class Batch:
    """Normalised latents [B, 16, h, w] of targets and of each reference slot, and their text.

    `mask` [B, 1, h, w] is 1 where the target counts in full; None if no pair has one.
    """

    target: Tensor
    references: tuple[Tensor, ...]
    text: Text
    mask: Tensor | None = None

    @property
    def target_tokens(self) -> int:
        return self.target.shape[2] * self.target.shape[3] // 4


def load_batch(pairs: Sequence[EncodedPair], text: Path | None, device: torch.device) -> Batch:
    """Read one batch of pairs of equal shape; `text` replaces every caption (dropout)."""
    targets = [load_file(pair.target)["latent"] for pair in pairs]
    slots = zip(
        *([load_file(path)["latent"] for path in pair.references] for pair in pairs), strict=True
    )
    texts = [load_file(text or pair.text) for pair in pairs]
    mask = None
    if any(pair.mask for pair in pairs):
        whole = torch.ones_like(targets[0][:, :1])
        mask = torch.cat([load_file(p.mask)["mask"] if p.mask else whole for p in pairs])
        mask = mask.to(device)
    return Batch(
        torch.cat(targets).to(device),
        tuple(torch.cat(slot).to(device) for slot in slots),
        Text(
            torch.cat([each["cond"] for each in texts]).to(device),
            torch.cat([each["pooled"] for each in texts]).to(device),
        ),
        mask,
    )


class Batches:
    """Every pair once an epoch (as often as its repeats say), in batches of one shape.

    The order of an epoch follows from (seed, epoch), so any step can be asked for at any time:
    a resumed run needs no stored position.
    """

    def __init__(
        self, pairs: Sequence[EncodedPair], repeats: Sequence[int], size: int, seed: int
    ) -> None:
        self.size, self.seed = size, seed
        self.buckets: dict[tuple, list[EncodedPair]] = defaultdict(list)
        for pair, count in zip(pairs, repeats, strict=True):
            self.buckets[pair.shape] += [pair] * count
        self.per_epoch = sum(-(-len(bucket) // size) for bucket in self.buckets.values())
        self.shuffled: tuple[int, list[list[EncodedPair]]] = (-1, [])

    def at(self, index: int) -> list[EncodedPair]:
        """Batch number `index` since the start of the run."""
        epoch, position = divmod(index, self.per_epoch)
        if self.shuffled[0] != epoch:
            self.shuffled = (epoch, self.epoch(epoch))
        return self.shuffled[1][position]

    def tokens(self) -> list[int]:
        """Length of the transformer's sequence for each bucket."""
        return [sequence_length(shape) for shape in self.buckets]

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


def sequence_length(shape: tuple[tuple[int, ...], ...]) -> int:
    """Tokens of a pair's latents (2 × 2 values each) and of its text."""
    *latents, text = shape
    return sum(latent[2] * latent[3] // 4 for latent in latents) + text[1]


def seeded(seed: int, index: int, purpose: str) -> torch.Generator:
    """A generator of its own for one purpose at one step or epoch of a run."""
    digest = hashlib.sha256(f"{seed} {index} {purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
