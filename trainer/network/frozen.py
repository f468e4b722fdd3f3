"""The types that all of `network` builds on: frozen linears and forward functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

Forward = Callable[..., Any]
# What the inputs of a block are, by name: the sequence of pictures (img), of text (txt), of both
# (x), and the rotations of both (turns)
STREAMS = {"img": "img", "txt": "txt", "x": "x", "pe": "turns"}


class Sized(Protocol):
    @property
    def in_features(self) -> int: ...

    @property
    def out_features(self) -> int: ...


class FrozenBase(Protocol):
    """A linear layer whose weight is never trained and never kept by autograd.

    `forward` and `backward` return new tensors, since the LoRA's part is added to them in place.
    While `keeping`, the weight dequantised in forward is kept for the one backward that follows;
    while `unread`, forward may return anything of the right shape.
    """

    keeping: bool
    unread: bool

    def forward(self, x: Tensor) -> Tensor: ...

    def backward(self, gradient: Tensor) -> Tensor: ...

    def rows_times_weight(self, rows: Tensor) -> Tensor:
        """rows [n, out] @ W [out, in], never in 8 bits, unlike `backward`."""
        ...

    def column_norms(self, device: torch.device) -> Tensor: ...
