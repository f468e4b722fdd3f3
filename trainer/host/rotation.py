"""Rotary position embedding whose backward is the rotation the other way round."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def rotated(q: Tensor, k: Tensor, turns: Tensor) -> tuple[Tensor, Tensor]:
    """Rotated queries and keys [B, heads, tokens, D], bit for bit as ComfyUI's Flux trains.

    `turns` [B, 1, tokens, D / 2, 2, 2] float32 are rotation matrices. Autograd through the same
    operations would hold several float32 copies of both at once. The compiler holds none, and
    torch 2.11's gave `Rotation` a wrong float32 gradient (tests/trainer/network/test_compile.py).
    """
    if torch.compiler.is_compiling():
        return turn(q, turns), turn(k, turns)
    return Rotation.apply(q, turns), Rotation.apply(k, turns)


class Rotation(torch.autograd.Function):
    """x rotated by fixed matrices; only these are kept for backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, turns: Tensor) -> Tensor:
        ctx.save_for_backward(turns)
        return turn(x, turns)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (turns,) = ctx.saved_tensors
        return turn(gradient, turns.transpose(-1, -2)), None


def turn(x: Tensor, turns: Tensor) -> Tensor:
    """Each pair of neighbouring values of x times its matrix, in float32, returned in x's dtype."""
    pairs = x.to(turns.dtype).reshape(*x.shape[:-1], -1, 1, 2)
    out = turns[..., 0] * pairs[..., 0]
    return out.addcmul_(turns[..., 1], pairs[..., 1]).reshape(x.shape).type_as(x)
