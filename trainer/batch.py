"""A batch: encoded pairs, read from the cache, and the random generators of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import pad

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True)
class Text:
    """Encoded captions: `cond` [B, tokens, channels], `pooled` [B, channels] where the encoder
    makes one, and `mask` [B, tokens], 0 where a shorter caption has been padded."""

    cond: Tensor
    pooled: Tensor | None = None
    mask: Tensor | None = None

    def tensors(self) -> list[Tensor]:
        return [part for part in (self.cond, self.pooled, self.mask) if part is not None]

    def to(self, *where: Any) -> Text:
        """As Tensor.to, for all of it."""
        parts = (self.cond, self.pooled, self.mask)
        return Text(*(None if part is None else part.to(*where) for part in parts))  # type: ignore[arg-type]


@dataclass(frozen=True)
class EncodedPair:
    """The files of a pair's encoded parts, and the shapes of its latents and, last, of its text.

    `text` is the encoded caption. `texts` are the texts that steps may use instead, by instruction
    (None is the caption, "" an empty prompt) and by whether the text encoder sees no references.
    Texts of `ragged` pairs are padded if a batch has several lengths.
    """

    stem: str
    target: Path
    references: tuple[Path, ...]
    text: Path
    shape: tuple[tuple[int, ...], ...]
    mask: Path | None = None
    texts: Mapping[tuple[str | None, bool], Path] = field(default_factory=dict, compare=False)
    ragged: bool = False

    @property
    def bucket(self) -> tuple[tuple[int, ...], ...]:
        """The shapes that pairs of one batch share."""
        return self.shape[:-1] if self.ragged else self.shape

    def text_for(self, instruction: str | None, blind: bool) -> Path:
        """The encoded instruction, or the caption for None; `blind` leaves the references out."""
        return self.text if instruction is None and not blind else self.texts[instruction, blind]


@dataclass(frozen=True)
class Batch:
    """Normalised latents [B, C, h, w] of targets and of each reference slot, and their text.

    `mask` [B, 1, h, w] is 1 where the target counts in full; None if no pair has a mask.
    """

    target: Tensor
    references: tuple[Tensor, ...]
    text: Text
    mask: Tensor | None = None


def load_batch(
    pairs: Sequence[EncodedPair],
    instruction: str | None,
    device: torch.device,
    blind: bool = False,
) -> Batch:
    """Read one batch of pairs from one bucket. An `instruction` replaces every caption; `blind`
    leaves the references out."""
    targets = [load_file(pair.target)["latent"] for pair in pairs]
    paths = [() if blind else pair.references for pair in pairs]
    slots = zip(*([load_file(path)["latent"] for path in each] for each in paths), strict=True)
    texts = [Text(**load_file(pair.text_for(instruction, blind))) for pair in pairs]
    mask = None
    if any(pair.mask for pair in pairs):
        whole = torch.ones_like(targets[0][:, :1])
        mask = torch.cat([load_file(p.mask)["mask"] if p.mask else whole for p in pairs])
        mask = mask.to(device)
    return Batch(
        torch.cat(targets).to(device),
        tuple(torch.cat(slot).to(device) for slot in slots),
        stacked(texts).to(device),
        mask,
    )


def stacked(texts: Sequence[Text]) -> Text:
    """Texts of batch size 1 as one batch, padded with zeros at the end and masked."""
    lengths = [text.cond.shape[1] for text in texts]
    most, mask = max(lengths), None
    if min(lengths) < most:
        mask = (torch.arange(most) < torch.tensor(lengths)[:, None]).long()
    conds = [pad(text.cond, (0, 0, 0, most - text.cond.shape[1])) for text in texts]
    pooled = [text.pooled for text in texts if text.pooled is not None]
    return Text(torch.cat(conds), torch.cat(pooled) if pooled else None, mask)


def seeded(seed: int, index: int, purpose: str) -> torch.Generator:
    """A generator for one purpose at one step or epoch of a run, independent of all others."""
    digest = hashlib.sha256(f"{seed} {index} {purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


def sample_seeds(count: int, generator: torch.Generator) -> Tensor:
    """Dropout seeds [count], one per sample."""
    return torch.randint(2**62, (count,), generator=generator)
