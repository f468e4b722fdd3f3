"""LoRAs that are trained while the demo transformer is, so that it learns to keep its edits.

A lesson trains a LoRA on a few pairs of an edit made of two that the base knows, under words that
mean nothing to it. The base learns its own edits with a LoRA of some lesson applied, so that what
LoRAs change comes to matter little to it. This is learning to learn without forgetting (Javed &
White 2019, Meta-Learning Representations for Continual Learning), to first order: how a LoRA
depends on the base is left out, as in section 5.2 of Finn, Abbeel & Levine 2017.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

RANK, STEPS, PAIRS, BATCH = 16, 100, 20, 4
RATES = 1e-3, 6e-3  # fewer and larger steps than a user's; they fall to zero
PACE = 24  # LoRAs act on smaller weights, as at_pace saves them, but all of them alike
REMEMBERED = 12  # lessons before whose LoRA is still met

Factors = dict[str, tuple[Tensor, Tensor]]


def detached(lora: Factors) -> Factors:
    return {name: (down.detach(), up.detach()) for name, (down, up) in lora.items()}


class Lessons:
    """The LoRA that is being trained and those of the lessons before."""

    def __init__(
        self,
        flux: nn.Module,
        pace: float,
        reading: Callable[[str], Tensor] = lambda name: torch.ones(()),
    ):
        """A LoRA changes a weight by `pace` times `up @ down`, of inputs times `reading`."""
        from kontext.trainer.families.flux1 import Flux1

        linears = {name: each for name, each in flux.named_modules() if isinstance(each, nn.Linear)}
        self.layers = {name: linears[name] for name in Flux1.targeted(linears, "blocks")}
        for name, layer in self.layers.items():
            layer.register_forward_hook(self._add(name))
        self.pace, self.reading, self.steps_left = pace, reading, 0
        self.learning: Factors = {}
        self.learnt: list[Factors] = []
        self._applied: Factors = {}

    def _add(self, name: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], Tensor]:
        def add(_: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
            if name not in self._applied:
                return output
            down, up = self._applied[name]
            change = F.linear(F.linear(inputs[0] * self.reading(name).to(inputs[0]), down), up)
            return output + change * self._scale.to(change)

        return add

    @contextmanager
    def applied(self, lora: Factors, strength: Tensor) -> Iterator[None]:
        """The network inside the block has this LoRA, at `strength` [samples] of each sample."""
        self._applied, self._scale = lora, self.pace * strength[:, None, None]
        yield
        self._applied = {}

    def begin(self, rate: float) -> None:
        """A new lesson with this learning rate; the LoRA of the one before is remembered."""
        if self.learning:
            self.learnt = [*self.learnt, detached(self.learning)][-REMEMBERED:]
        for name, layer in self.layers.items():
            bound, device = layer.in_features**-0.5, layer.weight.device
            down = torch.empty(RANK, layer.in_features, device=device).uniform_(-bound, bound)
            up = torch.zeros(layer.out_features, RANK, device=device)
            self.learning[name] = nn.Parameter(down), nn.Parameter(up)
        self.optimizer = torch.optim.AdamW(self.factors(), lr=rate, fused=True)
        self.schedule = torch.optim.lr_scheduler.LinearLR(self.optimizer, 1.0, 0.0, STEPS)
        self.steps_left = STEPS

    def factors(self) -> list[Tensor]:
        return [factor for pair in self.learning.values() for factor in pair]

    def advance(self, loss: Callable[[], Tensor]) -> None:
        """One step of the LoRA that is being trained; the base stays as it is."""
        with self.applied(self.learning, torch.ones(1)):
            gradients = torch.autograd.grad(loss(), self.factors())
        for factor, gradient in zip(self.factors(), gradients, strict=True):
            factor.grad = gradient
        self.optimizer.step()
        self.schedule.step()
        self.steps_left -= 1

    def any(self, rng: np.random.RandomState) -> Factors:
        """The LoRA of this lesson or of one before; none before the first."""
        loras = [*self.learnt, self.learning]
        return detached(loras[rng.randint(len(loras))])
