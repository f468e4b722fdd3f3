"""LoRA layers on frozen linears: their parameters, their autograd functions, their dropout."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ...language import say
from ..config import ConfigError
from .frozen import FrozenBase, Sized
from .opaque import TracedLinear, dropout, low_rank_backward, low_rank_forward, mask

Drop = Callable[[Tensor], Tensor]


class Adapter(nn.Module):
    """The trained parameters of one linear, in float32.

    `last` names the parameter that starts at zero, so that a new adapter changes nothing.
    """

    last: str
    scale: float

    def forward(
        self, x: Tensor, base: FrozenBase, strength: float = 1.0, drop: Drop | None = None
    ) -> Tensor:
        """The sum of the base's and the adapter's output for x [..., in].

        `drop` applies to the adapter's input alone, as PEFT's `lora_dropout` does.
        """
        raise NotImplementedError

    def file_parts(self) -> dict[str, Tensor]:
        """The tensors to save in a LoRA file, by part."""
        return dict(self.named_parameters())

    def from_file(self, parts: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
        """Parameters equivalent to a file's parts, which may have another scale."""
        changed = dict(parts)
        if self.last in changed:
            changed[self.last] = changed[self.last].float() * (scale / self.scale)
        return changed


class LowRank(Adapter):
    """LoRA (Hu et al. 2021): ΔW = scale · up @ down, with down [rank, in] and up [out, rank].

    Initialised as in PEFT and kohya: down Kaiming uniform with a = √5, up zero.
    """

    last = "up"

    def __init__(
        self, in_features: int, out_features: int, rank: int, scale: float, seed: torch.Generator
    ) -> None:
        super().__init__()
        bound = 1 / math.sqrt(in_features)
        down = torch.empty(rank, in_features).uniform_(-bound, bound, generator=seed)
        self.down = nn.Parameter(down)
        self.up = nn.Parameter(torch.zeros(out_features, rank))
        self.scale = scale

    def forward(
        self, x: Tensor, base: FrozenBase, strength: float = 1.0, drop: Drop | None = None
    ) -> Tensor:
        dropped = x if drop is None else drop(x)
        return with_low_rank(x, dropped, base, self.down, self.up, self.scale * strength)


class Lora:
    """All adapters of a run, by the name of the linear they adapt."""

    def __init__(self, layers: Mapping[str, Adapter]) -> None:
        self.layers = dict(layers)
        self.strength = 1.0
        self.dropout = 0.0
        self.seeds = torch.empty(0)

    @classmethod
    def create(
        cls,
        linears: Mapping[str, Sized],
        rank: int,
        scale: float,
        seed: int,
        kind: Callable[..., Adapter] = LowRank,
    ) -> Lora:
        """New adapters for these linears."""
        generator = torch.Generator().manual_seed(seed)
        return cls(
            {
                name: kind(linear.in_features, linear.out_features, rank, scale, generator)
                for name, linear in linears.items()
            }
        )

    @contextmanager
    def at_strength(self, strength: float) -> Iterator[None]:
        """Inside, what the adapters add is multiplied by `strength`."""
        before, self.strength = self.strength, strength
        try:
            yield
        finally:
            self.strength = before

    @contextmanager
    def dropping(self, rate: float, seeds: Tensor) -> Iterator[None]:
        """Dropout inside the block. `seeds` [B] has one seed per sample.

        A mask depends on the sample's seed and the layer's place alone: it is the same when a
        checkpointed block is recomputed, and however a batch is shared among processes.
        """
        self.dropout, self.seeds = rate, seeds
        try:
            yield
        finally:
            self.dropout = 0.0

    def drop(self, place: Tensor) -> Drop | None:
        """Dropout for the input of the layer at this place; None if there is no dropout."""
        if not self.dropout:
            return None
        if torch.compiler.is_compiling():
            return lambda x: dropout(x, self.dropout, self.seeds, place)
        return lambda x: Dropout.apply(x, self.dropout, self.seeds + place)

    def parameters(self) -> list[nn.Parameter]:
        return [parameter for layer in self.layers.values() for parameter in layer.parameters()]

    def to(self, device: torch.device) -> Lora:
        for layer in self.layers.values():
            layer.to(device)
        return self

    def start_from(self, tensors: Mapping[str, Tensor], scale: float) -> None:
        """Copy the weights of another LoRA, as read from a file.

        Raises ConfigError if its layers, kind or ranks differ.
        """
        weights = {}
        for name, layer in self.layers.items():
            prefix = f"{name}."
            parts = {
                key.removeprefix(prefix): value
                for key, value in tensors.items()
                if key.startswith(prefix)
            }
            own_parts = layer.file_parts().keys()
            if parts and parts.keys() != own_parts:
                raise ConfigError(
                    say(
                        "The LoRA to start from is of another kind: {name} has {parts} there, "
                        "{own_parts} here. Train with its `adapter`.",
                        name=name,
                        parts=", ".join(parts),
                        own_parts=", ".join(own_parts),
                    )
                )
            start = layer.from_file(parts, scale)
            for part, parameter in layer.named_parameters():
                if part not in start or start[part].shape != parameter.shape:
                    shape = tuple(start[part].shape) if part in start else say("no such layer")
                    raise ConfigError(
                        say(
                            "The LoRA to start from does not fit: {part} is {shape} there, "
                            "{own_shape} here. Train with its rank and its targets.",
                            part=f"{name}.{part}",
                            shape=shape,
                            own_shape=tuple(parameter.shape),
                        )
                    )
                weights[f"{name}.{part}"] = start[part]
        self.load_state_dict(weights)

    def file_tensors(self) -> dict[str, Tensor]:
        """The tensors for a LoRA file, copied to the CPU, as `<name>.<part>`."""
        return {
            f"{name}.{part}": tensor.detach().to("cpu", copy=True)
            for name, layer in self.layers.items()
            for part, tensor in layer.file_parts().items()
        }

    def state_dict(self) -> dict[str, Tensor]:
        """Copies on the CPU of all parameters, as `<name>.down` and `<name>.up`."""
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
    """y = base(x) + scale · (x downᵀ) upᵀ; keeps x and x downᵀ for backward, never the weight.

    x [..., in] in the compute dtype; down [rank, in] and up [out, rank] in float32, as are their
    gradients. Hu et al. 2021, eq. 3, and its derivatives.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, base: FrozenBase, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        y, low = low_rank_forward(x, base, down, up, scale)
        ctx.save_for_backward(x, low, down, up)
        ctx.base, ctx.scale = base, scale
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, low, down, up = ctx.saved_tensors
        base = ctx.base if ctx.needs_input_grad[0] else None
        x_gradient, *trained = low_rank_backward(gradient, x, low, base, down, up, ctx.scale)
        return x_gradient, None, *trained, None


class PassThrough(torch.autograd.Function):
    """y = base(x) [..., out] for x [..., in]; its gradient is g W. Keeps nothing for backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, base: FrozenBase) -> Tensor:
        ctx.base = base
        return base.forward(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.base.backward(gradient), None


def frozen_linear(x: Tensor, base: FrozenBase) -> Tensor:
    """base(x), differentiable by x."""
    if torch.compiler.is_compiling() or not (torch.is_grad_enabled() and x.requires_grad):
        return base.forward(x)
    return PassThrough.apply(x, base)


def with_low_rank(
    x: Tensor, dropped: Tensor, base: FrozenBase, down: Tensor, up: Tensor, scale: float
) -> Tensor:
    """base(x) + scale · (dropped downᵀ) upᵀ, in one function if `dropped` is x."""
    if dropped is not x:
        low = nn.functional.linear(dropped, down.to(x.dtype))
        return frozen_linear(x, base) + scale * nn.functional.linear(low, up.to(x.dtype))
    if torch.compiler.is_compiling() and isinstance(base, TracedLinear):
        return base.low_rank(x, down, up, scale)
    return LoraLinear.apply(x, base, down, up, scale)


class Dropout(torch.autograd.Function):
    """x [B, …] times a mask made from `seeds` [B]. Keeps nothing but the seeds for backward.

    Srivastava et al. 2014, scaled in training.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, rate: float, seeds: Tensor) -> Tensor:
        ctx.rate, ctx.seeds = rate, seeds
        return x * mask(x, rate, seeds)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return gradient * mask(gradient, ctx.rate, ctx.seeds), None, None
