"""A batch: encoded pairs, read from the cache, and the generators that chance comes from."""

from __future__ import annotations

import hashlib
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


def sequence_length(shape: tuple[tuple[int, ...], ...]) -> int:
    """Tokens of a pair's latents (2 × 2 values each) and of its text."""
    *latents, text = shape
    return sum(latent[2] * latent[3] // 4 for latent in latents) + text[1]


def seeded(seed: int, index: int, purpose: str) -> torch.Generator:
    """A generator of its own for one purpose at one step or epoch of a run."""
    digest = hashlib.sha256(f"{seed} {index} {purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


def draw_seeds(count: int, generator: torch.Generator) -> Tensor:
    """Seeds of the dropout masks of `count` samples."""
    return torch.randint(2**62, (count,), generator=generator)
