"""What a compiler is to see as one operation: products with frozen weights, and dropout.

Behind these products stand ComfyUI's weights in whatever format, streamed and dequantised by its
own code, which nothing can trace. As operations of torch they leave a block one graph. They know
their frozen linear by a tensor, its place, and not by a constant: so all blocks of a kind are the
same graph, compiled once.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn
from torch.library import custom_op

if TYPE_CHECKING:
    from .frozen import FrozenBase, Sized


# ---- a low-rank pair beside a frozen base --------------------------------------------------


def pair_forward(
    x: Tensor, base: FrozenBase, down: Tensor, up: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """base(x) + scale · (x downᵀ) upᵀ, and x downᵀ, in the dtype of x [..., in]."""
    y = base.forward(x)
    low = nn.functional.linear(x, down.to(x.dtype))
    y.view(-1, y.shape[-1]).addmm_(low.flatten(0, -2), up.to(x.dtype).T, alpha=scale)
    return y, low


def pair_backward(
    gradient: Tensor,
    x: Tensor,
    low: Tensor,
    base: FrozenBase | None,
    down: Tensor,
    up: Tensor,
    scale: float,
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Gradients of x, down and up; none of x without a base."""
    low_gradient = gradient @ (up.to(gradient.dtype) * scale)
    up_gradient = gradient.flatten(0, -2).T @ low.flatten(0, -2) * scale
    down_gradient = low_gradient.flatten(0, -2).T @ x.flatten(0, -2)
    x_gradient = None
    if base is not None:
        x_gradient = base.backward(gradient)
        rows = x_gradient.view(-1, x_gradient.shape[-1])
        rows.addmm_(low_gradient.flatten(0, -2), down.to(gradient.dtype))
    return x_gradient, down_gradient.to(down.dtype), up_gradient.to(up.dtype)


def mask(like: Tensor, rate: float, seeds: Tensor) -> Tensor:
    """0 with the probability `rate`, else 1 / (1 - rate); a seed for each sample of the batch."""
    # of its own layout: x and its gradient may lie differently in memory
    kept = torch.empty(like.shape, dtype=like.dtype, device=like.device)
    for sample, seed in zip(kept, seeds.tolist(), strict=True):
        sample.bernoulli_(1 - rate, generator=torch.Generator(like.device).manual_seed(seed))
    return kept.div_(1 - rate)


# ---- operations ----------------------------------------------------------------------------


NUMBERS = count()
BASES: WeakValueDictionary[int, Any] = WeakValueDictionary()  # by number, while a run has them


def base_at(place: Tensor) -> FrozenBase:
    return BASES[int(place)]


@custom_op("kontext::frozen", mutates_args=())
def frozen(x: Tensor, place: Tensor, width: int) -> Tensor:
    return base_at(place).forward(x)


@custom_op("kontext::frozen_backward", mutates_args=())
def frozen_backward(gradient: Tensor, place: Tensor, width: int) -> Tensor:
    return base_at(place).backward(gradient)


@custom_op("kontext::across", mutates_args=())
def across(rows: Tensor, place: Tensor, width: int) -> Tensor:
    return base_at(place).across(rows)


@custom_op("kontext::pair", mutates_args=())
def pair(x: Tensor, down: Tensor, up: Tensor, place: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    return pair_forward(x, base_at(place), down, up, scale)


@custom_op("kontext::pair_backward", mutates_args=())
def pair_backward_at(
    gradient: Tensor,
    x: Tensor,
    low: Tensor,
    down: Tensor,
    up: Tensor,
    place: Tensor,
    scale: float,
    wanted: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    base = base_at(place) if wanted else None
    of_x, of_down, of_up = pair_backward(gradient, x, low, base, down, up, scale)
    return x.new_empty(0) if of_x is None else of_x, of_down, of_up


@custom_op("kontext::dropout", mutates_args=())
def dropout(x: Tensor, rate: float, seeds: Tensor, place: Tensor) -> Tensor:
    """x with a share of its values at 0 and the others scaled up; `place` is added to the seeds."""
    return x * mask(x, rate, seeds + place)


# What they return, as a compiler sees it: shapes only


@frozen.register_fake
@frozen_backward.register_fake
@across.register_fake
def _(x: Tensor, place: Tensor, width: int) -> Tensor:
    return x.new_empty(*x.shape[:-1], width)


@pair.register_fake
def _(x: Tensor, down: Tensor, up: Tensor, place: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    outer = x.shape[:-1]
    return x.new_empty(*outer, up.shape[0]), x.new_empty(*outer, down.shape[0])


@pair_backward_at.register_fake
def _(gradient: Tensor, x: Tensor, low: Tensor, *given: Any) -> tuple[Tensor, Tensor, Tensor]:
    down, up, _place, _scale, wanted = given
    return (
        x.new_empty(x.shape if wanted else 0),
        down.new_empty(down.shape),
        up.new_empty(up.shape),
    )


@dropout.register_fake
def _(x: Tensor, rate: float, seeds: Tensor, place: Tensor) -> Tensor:
    return x.new_empty(x.shape)


# Their gradients


def remember_place(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, place, _ = inputs
    ctx.save_for_backward(place)
    ctx.width = x.shape[-1]


def frozen_gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    (place,) = ctx.saved_tensors
    return frozen_backward(gradient, place, ctx.width), None, None


def remember_pair(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, down, up, place, ctx.scale = inputs
    ctx.save_for_backward(x, output[1], down, up, place)


def pair_gradients(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    wanted = ctx.needs_input_grad[0]
    x_gradient, *trained = pair_backward_at(gradient, *ctx.saved_tensors, ctx.scale, wanted)
    return x_gradient if wanted else None, *trained, None, None


def remember_seeds(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.rate, *seeds = inputs
    ctx.save_for_backward(*seeds)


def dropout_gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    return dropout(gradient, ctx.rate, *ctx.saved_tensors), None, None, None


frozen.register_autograd(frozen_gradients, setup_context=remember_place)
pair.register_autograd(pair_gradients, setup_context=remember_pair)
dropout.register_autograd(dropout_gradients, setup_context=remember_seeds)


class Opaque:
    """A frozen linear as it is, and to a compiler one operation, with its gradient."""

    def __init__(self, base: FrozenBase, sides: Sized) -> None:
        self.base = base
        self.into, self.out = sides.in_features, sides.out_features
        number = next(NUMBERS)
        self.place = torch.tensor(number)
        BASES[number] = base

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            return frozen(x, self.place, self.out)
        return self.base.forward(x)

    def backward(self, gradient: Tensor) -> Tensor:
        return self.base.backward(gradient)

    def across(self, rows: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            return across(rows, self.place, self.into)
        return self.base.across(rows)

    def column_norms(self, device: torch.device) -> Tensor:
        return self.base.column_norms(device)

    def pair(self, x: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
        return pair(x, down, up, self.place, scale)[0]
