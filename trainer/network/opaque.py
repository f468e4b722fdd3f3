"""Custom ops that torch.compile treats as opaque: frozen linears and seeded dropout.

ComfyUI streams and dequantises the frozen weights in code that torch.compile cannot trace. As
custom ops they do not break a block's graph. An op finds its linear by a number in a tensor,
`place`, not by a constant, so that all blocks of a kind share one graph, compiled once.
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


# ---- a frozen linear plus a low-rank product -----------------------------------------------


def low_rank_forward(
    x: Tensor, base: FrozenBase, down: Tensor, up: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """base(x) + scale · (x downᵀ) upᵀ [..., out], and x downᵀ [..., rank], in the dtype of x.

    x [..., in], down [rank, in], up [out, rank]. Hu et al. 2021, eq. 3.
    """
    y = base.forward(x)
    low = nn.functional.linear(x, down.to(x.dtype))
    y.view(-1, y.shape[-1]).addmm_(low.flatten(0, -2), up.to(x.dtype).T, alpha=scale)
    return y, low


def low_rank_backward(
    gradient: Tensor,
    x: Tensor,
    low: Tensor,
    base: FrozenBase | None,
    down: Tensor,
    up: Tensor,
    scale: float,
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Gradients of x, down and up by `low_rank_forward`; None for x without a base.

    `gradient` [..., out] and `low` = x downᵀ [..., rank]. By the chain rule.
    """
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
    """A dropout mask: 0 with probability `rate`, else 1 / (1 - rate). One seed per sample.

    If `like` has the batch several times over, one after the other, each copy of a sample gets the
    same mask: some networks compute a modulation for two noise levels at once.
    """
    seeds = seeds.repeat(len(like) // len(seeds))
    # always contiguous: the layouts of x and its gradient may differ
    factors = torch.empty(like.shape, dtype=like.dtype, device=like.device)
    for sample, seed in zip(factors, seeds.tolist(), strict=True):
        sample.bernoulli_(1 - rate, generator=torch.Generator(like.device).manual_seed(seed))
    return factors.div_(1 - rate)


# ---- custom ops ----------------------------------------------------------------------------


NUMBERS = count()
BASES: WeakValueDictionary[int, Any] = WeakValueDictionary()  # by number, while a run uses them


def base_at(place: Tensor) -> FrozenBase:
    return BASES[int(place)]


@custom_op("kontext::frozen", mutates_args=())
def frozen(x: Tensor, place: Tensor, width: int) -> Tensor:
    return base_at(place).forward(x)


@custom_op("kontext::frozen_backward", mutates_args=())
def frozen_backward(gradient: Tensor, place: Tensor, width: int) -> Tensor:
    return base_at(place).backward(gradient)


@custom_op("kontext::rows_times_weight", mutates_args=())
def rows_times_weight(rows: Tensor, place: Tensor, width: int) -> Tensor:
    return base_at(place).rows_times_weight(rows)


@custom_op("kontext::low_rank", mutates_args=())
def low_rank(
    x: Tensor, down: Tensor, up: Tensor, place: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    return low_rank_forward(x, base_at(place), down, up, scale)


@custom_op("kontext::low_rank_backward", mutates_args=())
def low_rank_backward_at(
    gradient: Tensor,
    x: Tensor,
    low: Tensor,
    down: Tensor,
    up: Tensor,
    place: Tensor,
    scale: float,
    needs_x: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    base = base_at(place) if needs_x else None
    of_x, of_down, of_up = low_rank_backward(gradient, x, low, base, down, up, scale)
    return x.new_empty(0) if of_x is None else of_x, of_down, of_up


@custom_op("kontext::dropout", mutates_args=())
def dropout(x: Tensor, rate: float, seeds: Tensor, place: Tensor) -> Tensor:
    """x times its mask; `place`, the layer's number, is added to the seeds."""
    return x * mask(x, rate, seeds + place)


# The shapes of the results, for the compiler


@frozen.register_fake
@frozen_backward.register_fake
@rows_times_weight.register_fake
def _(x: Tensor, place: Tensor, width: int) -> Tensor:
    return x.new_empty(*x.shape[:-1], width)


@low_rank.register_fake
def _(x: Tensor, down: Tensor, up: Tensor, place: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    outer = x.shape[:-1]
    return x.new_empty(*outer, up.shape[0]), x.new_empty(*outer, down.shape[0])


@low_rank_backward_at.register_fake
def _(gradient: Tensor, x: Tensor, low: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    down, up, _place, _scale, needs_x = others
    return (
        x.new_empty(x.shape if needs_x else 0),
        down.new_empty(down.shape),
        up.new_empty(up.shape),
    )


@dropout.register_fake
def _(x: Tensor, rate: float, seeds: Tensor, place: Tensor) -> Tensor:
    return x.new_empty(x.shape)


# Gradients


def remember_place(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, place, _ = inputs
    ctx.save_for_backward(place)
    ctx.width = x.shape[-1]


def frozen_gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    (place,) = ctx.saved_tensors
    return frozen_backward(gradient, place, ctx.width), None, None


def remember_low_rank(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, down, up, place, ctx.scale = inputs
    ctx.save_for_backward(x, output[1], down, up, place)


def low_rank_gradients(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    needs_x = ctx.needs_input_grad[0]
    x_gradient, *trained = low_rank_backward_at(gradient, *ctx.saved_tensors, ctx.scale, needs_x)
    return x_gradient if needs_x else None, *trained, None, None


def remember_seeds(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.rate, *seeds = inputs
    ctx.save_for_backward(*seeds)


def dropout_gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    return dropout(gradient, ctx.rate, *ctx.saved_tensors), None, None, None


frozen.register_autograd(frozen_gradients, setup_context=remember_place)
low_rank.register_autograd(low_rank_gradients, setup_context=remember_low_rank)
dropout.register_autograd(dropout_gradients, setup_context=remember_seeds)


class TracedLinear:
    """A frozen linear that torch.compile traces as one custom op; plain in eager mode."""

    keeping = unread = False  # never used here

    def __init__(self, base: FrozenBase, size: Sized) -> None:
        self.base = base
        self.in_features, self.out_features = size.in_features, size.out_features
        number = next(NUMBERS)
        self.place = torch.tensor(number)
        BASES[number] = base

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            return frozen(x, self.place, self.out_features)
        return self.base.forward(x)

    def backward(self, gradient: Tensor) -> Tensor:
        return self.base.backward(gradient)

    def rows_times_weight(self, rows: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            return rows_times_weight(rows, self.place, self.in_features)
        return self.base.rows_times_weight(rows)

    def column_norms(self, device: torch.device) -> Tensor:
        return self.base.column_norms(device)

    def low_rank(self, x: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
        return low_rank(x, down, up, self.place, scale)[0]
