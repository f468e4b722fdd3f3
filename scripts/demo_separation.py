"""Keep apart what the demo transformer computes under different instructions.

A LoRA adds `up @ down @ x` to what a layer makes of its input x, and `down` turns towards the
inputs it is trained on. Under another instruction it therefore does the more, the more that
instruction's inputs are like them. Gates that depend on the task separate tasks in the same way
(Masse, Grant & Freedman 2018, PNAS 115, 44).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TOKENS = 24  # of each sample, drawn at random: all are compared with all


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


class Separation:
    """Watches the inputs of all layers that a LoRA trains."""

    def __init__(self, flux: nn.Module):
        from kontext.trainer.lora import targeted

        self.inputs: dict[str, Tensor] = {}
        layers = {name: each for name, each in flux.named_modules() if isinstance(each, nn.Linear)}
        for name in targeted(layers, "blocks"):
            layers[name].register_forward_pre_hook(self._watch(name))

    def _watch(self, name: str) -> Callable[[nn.Module, tuple[Tensor]], None]:
        def keep(_: nn.Module, inputs: tuple[Tensor]) -> None:
            self.inputs[name] = inputs[0]

        return keep

    def likeness(self, different: Tensor) -> Tensor:
        """Mean over the layers, of their inputs and of how these differ from the sample's mean."""
        layers = []
        for x in self.inputs.values():
            x = x[:, torch.randperm(x.shape[1])[:TOKENS]].float()
            layers += [likeness(x, different), likeness(x - x.mean(1, keepdim=True), different)]
        self.inputs.clear()
        return torch.stack(layers).mean()
