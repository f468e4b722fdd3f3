"""Keep apart what the demo transformer computes under different instructions.

A LoRA adds `up @ down @ x` to what a layer makes of its input x. `down` turns towards the inputs
it is trained on, but begins at random, so that it reads all others too. Under another instruction
it therefore does the more, the more that instruction's inputs are like them, the larger they are,
and the wider the gate is that follows. Gates that depend on the task separate tasks in the same
way (Masse, Grant & Freedman 2018, PNAS 115, 44).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from demo_model.lessons import RANK

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


def reach(x: Tensor, learnt: Tensor, kept: Tensor, rank: int = RANK) -> Tensor:
    """What a LoRA's first step on `learnt` samples changes for `kept` ones, squared, over what it
    changes for the learnt ones themselves.

    That step gives `up` the learnt tokens as `down` reads them: y moves by (down x) · (down y),
    whose square is on average (1 + 1 / rank) (x · y)² + |x|² |y|² / rank for a random `down` (the
    second moment of a Wishart matrix).

    `x` [samples, tokens, channels], `learnt` and `kept` [samples] bool.
    """
    products = torch.einsum("itc,jsc->itjs", x[learnt], x).square().mean((1, 3))
    sizes = x.square().sum(-1).mean(1)
    changes = (1 + 1 / rank) * products + sizes[learnt, None] * sizes / rank
    within = changes[:, learnt].diagonal()[:, None]
    return (changes[:, kept] / within).sum() / (learnt.sum() * kept.sum()).clamp(min=1)


def gate_of(layer: str) -> tuple[str, int]:
    """The modulation that gates what this layer's branch adds, and which of its gates it is."""
    kind, block, part = layer.split(".")[:3]
    if kind == "single_blocks":
        return f"{kind}.{block}.modulation.lin", 0
    stream, branch = part.split("_")
    return f"{kind}.{block}.{stream}_mod.lin", ("attn", "mlp").index(branch)


class Separation:
    """Watches the inputs of all layers that a LoRA trains, and the gates behind them."""

    def __init__(self, flux: nn.Module):
        from kontext.trainer.families.flux1 import Flux1

        self.inputs: dict[str, Tensor] = {}
        self.gates: dict[str, Tensor] = {}  # root mean square, [samples, gates]
        self.energies: dict[str, Tensor] = {}  # of unknown words and of known edits, [2, channels]
        layers = {name: each for name, each in flux.named_modules() if isinstance(each, nn.Linear)}
        for name in Flux1.targeted(layers, "blocks"):
            layers[name].register_forward_pre_hook(self._watch(name))
        for name in {gate_of(name)[0] for name in Flux1.targeted(layers, "blocks")}:
            layers[name].register_forward_hook(self._watch_gates(name))

    def _watch(self, name: str) -> Callable[[nn.Module, tuple[Tensor]], None]:
        def keep(_: nn.Module, inputs: tuple[Tensor]) -> None:
            self.inputs[name] = inputs[0]

        return keep

    def _watch_gates(self, name: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
        def keep(modulation: nn.Module, _: tuple[Tensor], output: Tensor) -> None:
            gates = output.float().unflatten(-1, (-1, 3, modulation.in_features))[..., 2, :]
            self.gates[name] = gates.square().mean(-1).sqrt().flatten(1)

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
            modulation, which = gate_of(name)
            heard = self.reading(name) * self.gates[modulation][:, which, None, None]
            for each in (x, x - x.mean(1, keepdim=True)):
                alike.append(likeness(each, different))
                reached.append(reach(each * heard, unknown, ~unknown))
        self.inputs.clear()
        return torch.stack(alike).mean(), torch.stack(reached).mean()

    def _measure(self, name: str, x: Tensor, unknown: Tensor) -> None:
        if name.endswith(MODULATED) and unknown.any() and not unknown.all():
            seen = torch.stack([x[each].square().mean((0, 1)) for each in (unknown, ~unknown)])
            self.energies[name] = torch.lerp(self.energies.get(name, seen), seen, 0.02)
