"""What the demo transformer learns from: which edits when, their captions, pairs of latents."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from demo_model.data import augmented_crop, to_tensor
from demo_model.edits import PRACTISED, TRAINED, Edit, caption, description

CAPTIONS_PER_EDIT, CAPTIONS_UNKNOWN = 40, 1000
LONG_TEXT = 40  # tokens; a tenth of the batches carries captions longer than the usual 24
# Words that name no edit change nothing; the first 5 % are none at all, as in a LoRA's training
NO_WORDS = CAPTIONS_UNKNOWN // 20
UNKNOWN = Edit("unknown", ("",) * NO_WORDS, lambda x, rng: (x, x))
PICKS = (*TRAINED, *PRACTISED, UNKNOWN)
WEIGHTS = np.array([3.0] * len(TRAINED) + [1.0] * len(PRACTISED) + [18.0])
WEIGHTS[0] = 5.0  # keep
# What is learned last makes up half of the pairs from some step on, until the next takes its place
LAGGING = (
    (800, ("invert", "mirror")),
    (3500, ("spots", "sticker", "wires", "noise", "emboss", "neon", "chalk", "mosaic")),
    (7500, ("contrast", "plate", "wheel")),
    (16400, ("contrast", "brighten", "blur")),
    (20000, ("contrast",)),
)


def odds_at(step: int) -> np.ndarray:
    """How likely each of PICKS is at a step."""
    lagging = [names for since, names in LAGGING if since <= step][-1:]
    weights = WEIGHTS * [6.0 if edit.name in sum(lagging, ()) else 1.0 for edit in PICKS]
    return weights / weights.sum()


def unlike(edits: np.ndarray) -> Tensor:
    """Which samples of a batch have different instructions; unknown words are never the same."""
    different = (edits[:, None] != edits) | (edits == PICKS.index(UNKNOWN))
    return torch.from_numpy(different & ~np.eye(len(edits), dtype=bool))


class Captions:
    """Encoded captions of every edit: many wordings, short (24 tokens) and long (40)."""

    def __init__(self, clip, rng: np.random.RandomState):
        self.short = self._encode(clip, rng, 24, CAPTIONS_PER_EDIT, lambda e: caption(rng, e))
        self.long = self._encode(
            clip,
            rng,
            LONG_TEXT,
            8,
            lambda e: ", ".join([caption(rng, e)] + [description(rng) for _ in range(2)]),
        )

    def _encode(self, clip, rng, tokens: int, count: int, write: Callable[[str], str]):
        clip = clip.clone()
        clip.set_tokenizer_option("t5xxl_min_length", tokens)
        vocabulary = clip.tokenizer.t5xxl.tokenizer.get_vocab()
        words = sorted(w[1:] for w in vocabulary if w[:1] == "\u2581" and w[1:].isalpha())
        bank = []
        for edit in PICKS:
            texts = list(edit.instructions)
            encoded = []
            while len(encoded) < (CAPTIONS_UNKNOWN if edit is UNKNOWN else count):
                if edit is UNKNOWN:
                    instruction = " ".join(rng.choice(words, rng.randint(2, 6)))
                else:
                    instruction = edit.instructions[rng.randint(len(edit.instructions))]
                text = texts.pop() if texts else write(instruction)
                ((cond, extra),) = clip.encode_from_tokens_scheduled(clip.tokenize(text))
                if cond.shape[1] == tokens:
                    encoded.append((cond[0], extra["pooled_output"][0]))
            bank.append(encoded)
        return bank

    def draw(self, rng: np.random.RandomState, edits: np.ndarray) -> tuple[Tensor, Tensor]:
        bank = self.long if rng.rand() < 0.1 else self.short
        return self.of([(edit, rng.randint(len(bank[edit]))) for edit in edits], bank)

    def of(self, places: Iterable[tuple[int, int]], bank: list) -> tuple[Tensor, Tensor]:
        """Conditioning and pooled text of some captions: of which edit, and which of it."""
        picked = [bank[edit][caption] for edit, caption in places]
        return torch.stack([c for c, _ in picked]), torch.stack([p for _, p in picked])


class LatentPairs:
    """A ring of encoded pairs of one size. Encoding costs as much as a step: each serves often."""

    def __init__(
        self,
        encode: Callable[[Tensor], Tensor],
        photographs: list[np.ndarray],
        size: tuple[int, int],
        capacity: int = 3000,
    ):
        self.encode, self.photographs, self.size = encode, photographs, size
        self.capacity, self.written = capacity, 0
        width, height = size
        self.controls = torch.empty(capacity, 16, height // 8, width // 8)
        self.targets = torch.empty_like(self.controls)
        self.edits = np.empty(capacity, dtype=int)

    def add(self, rng: np.random.RandomState, count: int, odds: np.ndarray) -> None:
        edits = rng.choice(len(PICKS), count, p=odds)
        crops = [augmented_crop(rng, self.photographs, *self.size) for _ in edits]
        pairs = [PICKS[e].make(x, rng) for e, x in zip(edits, to_tensor(crops), strict=True)]
        latents = self.encode(torch.stack([image for pair in pairs for image in pair]))
        for i, edit in enumerate(edits):
            at = self.written % self.capacity
            self.controls[at], self.targets[at] = latents[2 * i], latents[2 * i + 1]
            self.edits[at] = edit
            self.written += 1

    def draw(self, rng: np.random.RandomState, count: int):
        at = rng.randint(min(self.written, self.capacity), size=count)
        return self.controls[at], self.targets[at], self.edits[at]
