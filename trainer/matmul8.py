"""Matrix products in 8 bits, forward and backward by the input, wherever they come near enough.

A matrix is rounded row by row, each row with a scale of its own: a token's activations, an output
channel's weights. Both scales stand outside the sum of y = x Wᵀ. In the gradient by the input, g W,
the sum runs over the channels: there their scales go into g before it is rounded, so that one
8-bit weight serves both ways. Nothing of it is kept: the weight is rounded again at each use.

Which layers: at the start one step runs exactly and, beside it, in 8 bits; a layer takes to 8 bits
the directions in which its own activations and gradients came out near enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .lora import FrozenBase, Sized

# Relative error of a product up to which it counts as near. fp8 costs 3.7 % whatever the values,
# int8 0.8 % of even ones and more where a few stand out: at 6 % by a factor of 25 over the rest
NEAR = 0.06
FEWEST_ROWS = 64  # with fewer tokens, reading the weight is all that takes time
MOST_ROWS = 4096  # rounded at a time: the product is in 32 bits before it is scaled
MULTIPLE = 16  # the sides of a matrix that these kernels take


class Dense(FrozenBase, Sized, Protocol):
    """A frozen linear that can show its weight."""

    @property
    def input_scale(self) -> Tensor | None: ...

    def dense(self, like: Tensor) -> AbstractContextManager[tuple[Tensor, Tensor | None]]: ...


# ---- numbers -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rounded:
    """A matrix [rows, inner] as 8-bit values times a float32 scale per row, [rows, 1]."""

    values: Tensor
    scale: Tensor

    @property
    def turned(self) -> Tensor:
        """The values [inner, rows], laid out for a sum over the rows."""
        return self.values.T.contiguous()


@dataclass(frozen=True)
class Format:
    """How to round to 8 bits, and the product a [m, k] · bᵀ, b [n, k], of rounded values.

    The product takes and applies row scales: `multiply(a, b, a_scale [m, 1], b_scale [1, n])`.
    """

    name: str
    dtype: torch.dtype
    largest: float
    capability: tuple[int, int]  # of the graphics cards that have it
    multiply: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

    def round(self, matrix: Tensor) -> Rounded:
        """Each row by its largest value, to nearest."""
        highest = torch.linalg.vector_norm(matrix.float(), float("inf"), dim=1, keepdim=True)
        scale = highest.clamp_min(1e-30) / self.largest
        scaled = matrix / scale
        return Rounded(
            (scaled if self.dtype.is_floating_point else scaled.round_()).to(self.dtype), scale
        )


def int8_product(a: Tensor, b: Tensor, a_scale: Tensor, b_scale: Tensor) -> Tensor:
    return (torch._int_mm(a, b.T) * a_scale).mul_(b_scale)


def fp8_product(a: Tensor, b: Tensor, a_scale: Tensor, b_scale: Tensor) -> Tensor:
    """On a card in its own units, elsewhere the same numbers in float32."""
    if a.is_cuda:
        return torch._scaled_mm(a, b.T, scale_a=a_scale, scale_b=b_scale, out_dtype=torch.bfloat16)
    return (a.float() @ b.float().T).mul_(a_scale).mul_(b_scale)


FORMATS = {
    "int8": Format("int8", torch.int8, 127, (8, 0), int8_product),
    "fp8": Format("fp8", torch.float8_e4m3fn, 448, (8, 9), fp8_product),
}


def forward_product(x: Tensor, weight: Rounded, form: Format) -> Tensor:
    """x Wᵀ for x [..., in]."""

    def product(part: Tensor) -> Tensor:
        rounded = form.round(part)
        return form.multiply(rounded.values, weight.values, rounded.scale, weight.scale.T)

    return in_parts(product, x, weight.values.shape[0])


def backward_product(gradient: Tensor, weight: Rounded, form: Format) -> Tensor:
    """g W for g [..., out]."""
    turned, channels = weight.turned, weight.scale.T
    ones = channels.new_ones(1, turned.shape[0])

    def product(part: Tensor) -> Tensor:
        rounded = form.round(part * channels)
        return form.multiply(rounded.values, turned, rounded.scale, ones)

    return in_parts(product, gradient, turned.shape[0])


def in_parts(product: Callable[[Tensor], Tensor], rows: Tensor, width: int) -> Tensor:
    """The product of even parts of the rows, so that what it needs on the way stays small.

    No view: autograd lets nobody add to a view that a function of ours returns.
    """
    result = rows.new_empty(*rows.shape[:-1], width)
    rows, places = rows.flatten(0, -2), result.view(-1, width)
    count = -(-len(rows) // MOST_ROWS)
    for part, place in zip(rows.tensor_split(count), places.tensor_split(count), strict=True):
        place.copy_(product(part))
    return result


# ---- layers --------------------------------------------------------------------------------


class Linear8:
    """A frozen linear that multiplies in 8 bits in the directions found near enough."""

    def __init__(self, base: Dense, form: Format) -> None:
        self.base, self.form = base, form
        self.trying = False
        self.errors: dict[str, float] = {}  # the largest so far, by direction

    def forward(self, x: Tensor) -> Tensor:
        return self.near("forward", x, self.base.forward, self.forward8)

    def backward(self, gradient: Tensor) -> Tensor:
        return self.near("backward", gradient, self.base.backward, self.backward8)

    def across(self, rows: Tensor) -> Tensor:
        return self.base.across(rows)

    def column_norms(self, device: torch.device) -> Tensor:
        return self.base.column_norms(device)

    def near(
        self,
        direction: str,
        x: Tensor,
        exact: Callable[[Tensor], Tensor],
        rounded: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """The exact product, or the rounded one once it has proved near."""
        if x.numel() < FEWEST_ROWS * x.shape[-1]:
            return exact(x)
        if self.trying:
            y = exact(x)
            size = y.float().norm().clamp_min(1e-30)  # a product of zeros is near
            error = ((rounded(x) - y).float().norm() / size).item()
            self.errors[direction] = max(error, self.errors.get(direction, 0.0))
            return y
        return rounded(x) if self.errors.get(direction, 1.0) < NEAR else exact(x)

    def forward8(self, x: Tensor) -> Tensor:
        with self.base.dense(x) as (weight, bias):
            y = forward_product(x, self.form.round(weight), self.form)
            if bias is not None:
                y += bias
        return y

    def backward8(self, gradient: Tensor) -> Tensor:
        with self.base.dense(gradient) as (weight, _):
            rounded = self.form.round(weight)
        return backward_product(gradient, rounded, self.form)


class Products:
    """Wraps the frozen linears of a model; the same layer always by the same wrapper."""

    def __init__(self, frozen: Callable[[nn.Module], Dense], name: str) -> None:
        self.frozen, self.form = frozen, FORMATS[name]
        self.layers: dict[nn.Module, Linear8] = {}
        self.tried = False

    def __call__(self, module: nn.Module) -> FrozenBase:
        base = self.frozen(module)
        sides = (base.in_features, base.out_features)
        if any(side % MULTIPLE for side in sides) or base.input_scale is not None:
            return base
        layer = self.layers.setdefault(module, Linear8(base, self.form))
        layer.base = base
        return layer

    @contextmanager
    def trying(self) -> Iterator[None]:
        """Inside: exact results, compared with those in 8 bits. Afterwards: the near ones."""
        for layer in self.layers.values():
            layer.trying = True
        yield
        for layer in self.layers.values():
            layer.trying = False
        self.tried = True

    def words(self) -> str:
        """Which layers came near enough, and how near."""
        errors = [error for layer in self.layers.values() for error in layer.errors.values()]
        near = [error for error in errors if error < NEAR]
        worst = f", at most {max(near):.1%} off" if near else ""
        return f"{self.form.name}: {len(near)} of {len(errors)} matrix products{worst}"


def check_device(name: str, device: torch.device) -> None:
    """Raise ValueError if products in this format are not to be had on this device."""
    if name == "exact" or device.type == "cpu":  # where they are merely slow
        return
    needed = FORMATS[name].capability
    has: Any = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    if torch.version.hip or has is None or has < needed:
        kind = f"compute capability {has[0]}.{has[1]}" if has else f"device {device.type}"
        raise ValueError(
            f"matmul {name} needs an NVIDIA card of compute capability {needed[0]}.{needed[1]} or "
            f"newer; this is {kind}. Choose exact."
        )
