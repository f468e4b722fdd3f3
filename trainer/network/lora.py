"""What is trained on frozen linears: low-rank pairs, how they are added, and their dropout."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .frozen import FrozenBase, Sized
from .opaque import Opaque, dropout, mask, pair_backward, pair_forward

Drop = Callable[[Tensor], Tensor]


class Adapter(nn.Module):
    """What is trained on one frozen linear, in float32.

    `last` names the parameter that starts at zero, so that a fresh adapter changes nothing.
    """

    last: str
    scale: float

    def forward(
        self, x: Tensor, base: FrozenBase, strength: float = 1.0, drop: Drop | None = None
    ) -> Tensor:
        """The base's output and the adapter's for x [..., in]; `drop` is for the adapter's input.

        As PEFT's `lora_dropout`: the frozen part sees all of x.
        """
        raise NotImplementedError

    def file_parts(self) -> dict[str, Tensor]:
        """What a LoRA file holds of it."""
        return dict(self.named_parameters())

    def from_file(self, parts: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
        """Parameters that do the same as a file's parts, which were trained with another scale."""
        changed = dict(parts)
        if self.last in changed:
            changed[self.last] = changed[self.last].float() * (scale / self.scale)
        return changed


class LowRank(Adapter):
    """One pair `up @ down`, both float32: down [rank, in] uniform, up [out, rank] zero.

    The initialisation is PEFT's and kohya's: Kaiming uniform with a = √5.
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
        return with_pair(x, dropped, base, self.down, self.up, self.scale * strength)


class Lora:
    """All adapters of a run, by the name of the linear they adapt."""

    def __init__(self, layers: Mapping[str, Adapter]) -> None:
        self.layers = dict(layers)
        self.strength = 1.0
        self.dropout = 0.0
        self.masks = torch.empty(0)

    @classmethod
    def create(
        cls,
        linears: Mapping[str, Sized],
        rank: int,
        scale: float,
        seed: int,
        kind: Callable[..., Adapter] = LowRank,
    ) -> Lora:
        """Fresh adapters for these linears."""
        generator = torch.Generator().manual_seed(seed)
        return cls(
            {
                name: kind(linear.in_features, linear.out_features, rank, scale, generator)
                for name, linear in linears.items()
            }
        )

    @contextmanager
    def at_strength(self, strength: float) -> Iterator[None]:
        """Multiplies what the adapters add, inside the block."""
        before, self.strength = self.strength, strength
        try:
            yield
        finally:
            self.strength = before

    @contextmanager
    def dropping(self, rate: float, masks: Tensor) -> Iterator[None]:
        """Dropout inside the block. Masks follow from the sample's seed, one of `masks`, and the
        layer's place: the same in checkpointed blocks, and however a batch is shared out."""
        self.dropout, self.masks = rate, masks
        try:
            yield
        finally:
            self.dropout = 0.0

    def drop(self, place: Tensor) -> Drop | None:
        """Dropout for the input of the layer at this place, if there is any."""
        if not self.dropout:
            return None
        if torch.compiler.is_compiling():
            return lambda x: dropout(x, self.dropout, self.masks, place)
        return lambda x: Dropout.apply(x, self.dropout, self.masks + place)

    def parameters(self) -> list[nn.Parameter]:
        return [parameter for layer in self.layers.values() for parameter in layer.parameters()]

    def to(self, device: torch.device) -> Lora:
        for layer in self.layers.values():
            layer.to(device)
        return self

    def start_from(self, tensors: Mapping[str, Tensor], scale: float) -> None:
        """Take up another LoRA, as read from a file; ValueError if its layers or ranks differ."""
        weights = {}
        for name, layer in self.layers.items():
            start = f"{name}."
            parts = {
                key.removeprefix(start): value
                for key, value in tensors.items()
                if key.startswith(start)
            }
            here = layer.file_parts().keys()
            if parts and parts.keys() != here:
                raise ValueError(
                    f"The LoRA to start from is of another kind: {name} has {', '.join(parts)} "
                    f"there, {', '.join(here)} here. Train with its `adapter`."
                )
            given = layer.from_file(parts, scale)
            for part, parameter in layer.named_parameters():
                if part not in given or given[part].shape != parameter.shape:
                    found = f"{tuple(given[part].shape)}" if part in given else "no such layer"
                    raise ValueError(
                        f"The LoRA to start from does not fit: {name}.{part} is {found} there, "
                        f"{tuple(parameter.shape)} here. Train with its rank and its targets."
                    )
                weights[f"{name}.{part}"] = given[part]
        self.load_state_dict(weights)

    def file_tensors(self) -> dict[str, Tensor]:
        """Copies on the CPU of what a file holds, as `<name>.<part>`."""
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
    """y = base(x) + scale · (x downᵀ) upᵀ, keeping x and x downᵀ for backward, never the base.

    x [..., in] in the compute dtype, down and up in float32: they are cast, and their gradients
    come back in float32.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, base: FrozenBase, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        y, low = pair_forward(x, base, down, up, scale)
        ctx.save_for_backward(x, low, down, up)
        ctx.base, ctx.scale = base, scale
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, low, down, up = ctx.saved_tensors
        base = ctx.base if ctx.needs_input_grad[0] else None
        x_gradient, *trained = pair_backward(gradient, x, low, base, down, up, ctx.scale)
        return x_gradient, None, *trained, None


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


def through(x: Tensor, base: FrozenBase) -> Tensor:
    """base(x) alone."""
    if torch.compiler.is_compiling() or not (torch.is_grad_enabled() and x.requires_grad):
        return base.forward(x)
    return PassThrough.apply(x, base)


def with_pair(
    x: Tensor, dropped: Tensor, base: FrozenBase, down: Tensor, up: Tensor, scale: float
) -> Tensor:
    """base(x) + scale · (dropped downᵀ) upᵀ, fused where nothing is dropped."""
    if dropped is not x:
        low = nn.functional.linear(dropped, down.to(x.dtype))
        return through(x, base) + scale * nn.functional.linear(low, up.to(x.dtype))
    if torch.compiler.is_compiling() and isinstance(base, Opaque):
        return base.pair(x, down, up, scale)
    return LoraLinear.apply(x, base, down, up, scale)


class Dropout(torch.autograd.Function):
    """x with a share of its values at 0 and the others scaled up; keeps nothing for backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rate: float, seeds: Tensor) -> Tensor:
        ctx.rate, ctx.seeds = rate, seeds
        return x * mask(x, rate, seeds)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return gradient * mask(gradient, ctx.rate, ctx.seeds), None, None
