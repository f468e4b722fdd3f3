"""Trials before training: which layers may multiply in 8 bits, and whether to compile blocks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from ..language import say
from . import host, parallel
from .batch import Batch, EncodedPair, load_batch, sample_seeds, seeded
from .data.batches import Batches
from .families import Family
from .learner import Learner
from .loss.objective import sample_losses
from .network.compile import Compiler, first_of_each, lengths_of, random_weights, text_tokens
from .network.frozen import FrozenBase
from .network.matmul8 import EightBitLayers
from .network.opaque import TracedLinear
from .watcher import Journal


class Trials:
    """Faster ways to compute a step, each tried once and used only where it is precise enough."""

    def __init__(
        self,
        family: Family,
        learner: Learner,
        journal: Journal,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.family, self.learner, self.lora = family, learner, learner.lora
        self.config, self.journal = learner.config, journal
        self.device, self.dtype = device, dtype
        matmul, exact = self.config.matmul, self.config.matmul == "exact"
        self.eight_bit = None if exact else EightBitLayers(host.FrozenLinear, matmul)
        place = family.blocks(), device, dtype
        compiling = self.config.compile == "blocks"
        self.compiler = Compiler(*place, exact, journal.note, family.streams) if compiling else None

    def frozen(self, module: nn.Module) -> FrozenBase:
        """A linear of the base, as this run computes with it."""
        plain = host.FrozenLinear(module)
        base = self.eight_bit(module) if self.eight_bit else plain
        return TracedLinear(base, plain) if self.compiler else base

    def try_eight_bit(self, pair: EncodedPair) -> None:
        """Find the layers that may multiply in 8 bits, in one step on this pair."""
        if self.eight_bit is None or self.eight_bit.tried:
            return
        batch, sigma, noise, _ = self.trial_inputs([pair], "8bit")
        try:
            # almost without the LoRA, so that a resumed run finds the same layers
            with self.lora.at_strength(1e-30), self.eight_bit.trying():
                losses = sample_losses(self.family, batch, sigma, noise, self.config, self.dtype)
                losses.sum().backward()
        finally:
            self.learner.forget_gradients()
        self.journal.note(self.eight_bit.summary())

    def try_compiling(self, batches: Batches, progress: host.Progress) -> None:
        """Compile the blocks, and compare a step of each shape with an eager one."""
        if self.compiler is None or self.compiler.tried:
            return
        progress.say(say("compiling the blocks: this takes minutes the first time"))
        pairs = [*batches.pairs()]
        texts = {path for pair in pairs for path in (pair.text, *pair.texts.values())}
        self.compiler.lengths = lengths_of(
            {pair.shape for pair in pairs},
            map(text_tokens, texts),
            self.config,
            self.family.tokens,
        )
        groups = [parallel.mine(group) for group in first_of_each(batches.epoch(0))]
        steps = [partial(self.trial_step, group) for group in groups if group]
        try:
            with random_weights(self.lora, seeded(self.config.seed, 0, "compile")):
                self.compiler.try_on(steps, self.lora)
        finally:
            self.learner.forget_gradients()
        progress.say(self.journal.notes[-1])

    def trial_step(self, pairs: Sequence[EncodedPair]) -> float:
        """Gradients and loss of one step with these pairs, the same in every call."""
        host.throw_if_interrupted()
        batch, sigma, noise, seeds = self.trial_inputs(pairs, "trial")
        with self.lora.dropping(self.config.dropout, seeds):
            losses = sample_losses(self.family, batch, sigma, noise, self.config, self.dtype)
            loss = losses.mean()
            self.learner.backward(loss)
        return loss.item()

    def trial_inputs(
        self, pairs: Sequence[EncodedPair], purpose: str
    ) -> tuple[Batch, Tensor, Tensor, Tensor]:
        """The batch of these pairs, its noise levels and noise, and its dropout seeds."""
        batch = load_batch(pairs, None, self.device)
        generator = seeded(self.config.seed, 0, purpose)
        noise = torch.randn(batch.target.shape, generator=generator).to(self.device)
        sigma = noise.new_full((len(pairs),), 0.5)
        return batch, sigma, noise, sample_seeds(len(pairs), generator)
