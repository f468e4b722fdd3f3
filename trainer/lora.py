"""The trainable low-rank pairs, and the layer that adds one to a frozen linear."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class FrozenBase(Protocol):
    """A linear layer whose weight is never trained and never kept by autograd."""

    def forward(self, x: Tensor) -> Tensor: ...

    def backward(self, gradient: Tensor) -> Tensor: ...


class LowRank(nn.Module):
    """One pair `up @ down`, both float32: down [rank, in] uniform, up [out, rank] zero.

    The initialisation is PEFT's and kohya's: Kaiming uniform with a = √5.
    """

    def __init__(
        self, in_features: int, out_features: int, rank: int, scale: float, seed: torch.Generator
    ) -> None:
        super().__init__()
        bound = 1 / math.sqrt(in_features)
        down = torch.empty(rank, in_features).uniform_(-bound, bound, generator=seed)
        self.down = nn.Parameter(down)
        self.up = nn.Parameter(torch.zeros(out_features, rank))
        self.scale = scale


class Lora:
    """All low-rank pairs of a run, by the name of the linear they adapt."""

    def __init__(self, layers: Mapping[str, LowRank]) -> None:
        self.layers = dict(layers)
        self.strength = 1.0

    @classmethod
    def create(cls, linears: Mapping[str, nn.Linear], rank: int, scale: float, seed: int) -> Lora:
        """Fresh pairs for these linears (anything with in_features and out_features)."""
        generator = torch.Generator().manual_seed(seed)
        return cls(
            {
                name: LowRank(linear.in_features, linear.out_features, rank, scale, generator)
                for name, linear in linears.items()
            }
        )

    def parameters(self) -> list[nn.Parameter]:
        return [parameter for layer in self.layers.values() for parameter in layer.parameters()]

    def to(self, device: torch.device) -> Lora:
        for layer in self.layers.values():
            layer.to(device)
        return self

    def start_from(self, tensors: Mapping[str, Tensor], scale: float) -> None:
        """Take up the weights of another LoRA; ValueError if it has other layers or ranks."""
        for name, layer in self.layers.items():
            for part, parameter in layer.named_parameters():
                given = tensors.get(f"{name}.{part}")
                if given is None or given.shape != parameter.shape:
                    found = "no such layer" if given is None else f"{tuple(given.shape)}"
                    raise ValueError(
                        f"The LoRA to start from does not fit: {name}.{part} is {found} there, "
                        f"{tuple(parameter.shape)} here. Train with its rank and its targets."
                    )
        self.load_state_dict(tensors)
        with torch.no_grad():
            for layer in self.layers.values():
                layer.up.mul_(scale / layer.scale)

    def state_dict(self) -> dict[str, Tensor]:
        """Copies on the CPU, as `<name>.down` and `<name>.up`."""
        return {
            f"{name}.{part}": parameter.detach().to("cpu", copy=True)
            for name, layer in self.layers.items()
            for part, parameter in layer.named_parameters()
        }

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, layer in self.layers.items():
                for part, parameter in layer.named_parameters():
                    parameter.copy_(tensors[f"{name}.{part}"])


class LoraLinear(torch.autograd.Function):
    """y = base(x) + scale · (x downᵀ) upᵀ, keeping x and x downᵀ for backward, never the base.

    x [..., in] in the compute dtype, down and up in float32: they are cast, and their gradients
    come back in float32.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, base: FrozenBase, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        down_cast, up_cast = down.to(x.dtype), up.to(x.dtype)
        y = base.forward(x)
        low = nn.functional.linear(x, down_cast)
        y.view(-1, y.shape[-1]).addmm_(low.flatten(0, -2), up_cast.T, alpha=scale)
        ctx.save_for_backward(x, low, down, up)
        ctx.base, ctx.scale = base, scale
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, low, down, up = ctx.saved_tensors
        low_gradient = gradient @ (up.to(gradient.dtype) * ctx.scale)
        up_gradient = gradient.flatten(0, -2).T @ low.flatten(0, -2) * ctx.scale
        down_gradient = low_gradient.flatten(0, -2).T @ x.flatten(0, -2)
        x_gradient = None
        if ctx.needs_input_grad[0]:
            x_gradient = ctx.base.backward(gradient)
            x_gradient = x_gradient + low_gradient @ down.to(gradient.dtype)
        return x_gradient, None, down_gradient.to(down.dtype), up_gradient.to(up.dtype), None


class PassThrough(torch.autograd.Function):
    """y = base(x) for a linear without a LoRA; keeps nothing for backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, base: FrozenBase) -> Tensor:
        ctx.base = base
        return base.forward(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.base.backward(gradient), None


# ---- which linears -------------------------------------------------------------------------

TARGETS = {
    "attention": ("_attn.", "linear1", "linear2"),
    "blocks": ("_attn.", "_mlp.", "linear1", "linear2"),
    "all": ("_attn.", "_mlp.", "linear1", "linear2", "_mod.lin", "modulation.lin"),
}


def targeted(names: Iterable[str], targets: str, pattern: str = "") -> list[str]:
    """The linears of FLUX.1's blocks that a target preset, or a regular expression, names.

    `attention`: projections around attention (in single blocks these are fused with the MLP);
    `blocks`: and the MLPs; `all`: and the modulation. Raises ValueError if nothing is left.
    """
    parts = TARGETS[targets]
    linears = [name for name in names if name.startswith(("double_blocks.", "single_blocks."))]
    if not pattern:
        return [name for name in linears if any(part in name for part in parts)]
    chosen = [name for name in linears if re.search(pattern, name)]
    if not chosen:
        raise ValueError(f"pattern {pattern!r} matches none of {linears[0]} … {linears[-1]}.")
    return chosen
