"""What the rooms of `network` share: frozen linears, and the forwards that stand in for theirs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

Forward = Callable[..., Any]
STREAMS = ("img", "txt", "x")  # the block inputs that blocks update in place


class Sized(Protocol):
    @property
    def in_features(self) -> int: ...

    @property
    def out_features(self) -> int: ...


class FrozenBase(Protocol):
    """A linear layer whose weight is never trained and never kept by autograd.

    What both return is the caller's own: the LoRA's part is added to it in place.
    """

    def forward(self, x: Tensor) -> Tensor: ...

    def backward(self, gradient: Tensor) -> Tensor: ...

    def across(self, rows: Tensor) -> Tensor:
        """rows [n, out] times the weight: never rounded, unlike `backward`."""
        ...

    def column_norms(self, device: torch.device) -> Tensor: ...
