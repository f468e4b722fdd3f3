"""Keep apart what the demo transformer computes under different instructions.

A LoRA adds `up @ down @ x` to what a layer makes of its input x, and `down` turns towards the
inputs it is trained on. Under another instruction it therefore does the more, the more that
instruction's inputs are like them, and the larger they are. Gates that depend on the task separate
tasks in the same way (Masse, Grant & Freedman 2018, PNAS 115, 44).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TOKENS = 24  # of each sample, drawn at random: all are compared with all
MODULATED = ("qkv", "mlp.0", "linear1")  # layers whose inputs a modulation scales


def likeness(x: Tensor, different: Tensor) -> Tensor:
    """Mean squared cosine between the tokens of different samples, over that within samples.

    `x` [samples, tokens, channels], `different` [samples, samples] says which to compare. 0 if
    their tokens lie in orthogonal subspaces, or none are to be compared, 1 if they are as like as
    those of one sample.
    """
    tokens = F.normalize(x, dim=-1)
    cosine = torch.einsum("itc,jsc->itjs", tokens, tokens)
    alike = cosine.square().mean((1, 3))
    return (alike * different).sum() / different.sum().clamp(min=1) / alike.diagonal().mean()


def reach(x: Tensor, learnt: Tensor, kept: Tensor) -> Tensor:
    """Mean squared product between tokens of `learnt` and `kept` samples, over that within the
    learnt ones: what a step on the first changes for the second (the neural tangent kernel of a
    linear layer; Jacot, Gabriel & Hongler 2018).

    `x` [samples, tokens, channels], `learnt` and `kept` [samples] bool.
    """
    products = torch.einsum("itc,jsc->itjs", x[learnt], x).square().mean((1, 3))
    within = products[:, learnt].diagonal()[:, None]
    return (products[:, kept] / within).sum() / (learnt.sum() * kept.sum()).clamp(min=1)


class Separation:
    """Watches the inputs of all layers that a LoRA trains."""

    def __init__(self, flux: nn.Module):
        from kontext.trainer.lora import targeted

        self.inputs: dict[str, Tensor] = {}
        self.energies: dict[str, Tensor] = {}  # of unknown words and of known edits, [2, channels]
        layers = {name: each for name, each in flux.named_modules() if isinstance(each, nn.Linear)}
        for name in targeted(layers, "blocks"):
            layers[name].register_forward_pre_hook(self._watch(name))

    def _watch(self, name: str) -> Callable[[nn.Module, tuple[Tensor]], None]:
        def keep(_: nn.Module, inputs: tuple[Tensor]) -> None:
            self.inputs[name] = inputs[0]

        return keep

    def reading(self, name: str) -> Tensor:
        """How much larger a LoRA reads each channel of a modulated layer: larger those that speak
        under unknown words, smaller those that speak under known ones, [channels] or 1."""
        if name not in self.energies:
            return torch.ones(())
        unknown, known = self.energies[name]
        ratio = (unknown / known).clamp(1e-3, 1e3)
        return (ratio * unknown.sum() / (ratio * unknown).sum()).sqrt()

    def readings(self) -> dict[str, Tensor]:
        return {name: self.reading(name) for name in self.energies}

    def compare(self, different: Tensor, unknown: Tensor) -> tuple[Tensor, Tensor]:
        """Likeness and reach, means over the layers, of their inputs and of how these differ from
        the sample's mean. `unknown` [samples] tells which have words without meaning."""
        alike, reached = [], []
        for name, x in self.inputs.items():
            self._measure(name, x.detach().float(), unknown)
            x = x[:, torch.randperm(x.shape[1])[:TOKENS]].float()
            for each in (x, x - x.mean(1, keepdim=True)):
                alike.append(likeness(each, different))
                reached.append(reach(each * self.reading(name), unknown, ~unknown))
        self.inputs.clear()
        return torch.stack(alike).mean(), torch.stack(reached).mean()

    def _measure(self, name: str, x: Tensor, unknown: Tensor) -> None:
        if name.endswith(MODULATED) and unknown.any() and not unknown.all():
            seen = torch.stack([x[each].square().mean((0, 1)) for each in (unknown, ~unknown)])
            self.energies[name] = torch.lerp(self.energies.get(name, seen), seen, 0.02)
