"""Matrix products in 8 bits, forward and backward by the input, wherever they come near enough.

`formats8` has the numbers. Nothing of them is kept: the weight is rounded again at each use.

Which layers: at the start one step runs exactly and, beside it, in 8 bits; a layer takes to 8 bits
the directions in which its own activations and gradients came out near enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .formats8 import FORMATS, Format, Product
from .frozen import FrozenBase, Sized

# Relative error of a product up to which it counts as near. fp8 and mxfp8 cost 3.7 % whatever the
# values, int8 0.8 % of even ones and more where a few stand out: at 6 % by a factor of 25
NEAR = 0.06
FEWEST_ROWS = 64  # with fewer tokens, reading the weight is all that takes time
MOST_ROWS = 4096  # rounded at a time: the product is in 32 bits before it is scaled


class Dense(FrozenBase, Sized, Protocol):
    """A frozen linear that can show its weight."""

    @property
    def input_scale(self) -> Tensor | None: ...

    def dense(self, like: Tensor) -> AbstractContextManager[tuple[Tensor, Tensor | None]]: ...


def in_parts(product: Product, rows: Tensor, width: int) -> Tensor:
    """The product of even parts of the rows, so that what it needs on the way stays small.

    No view: autograd lets nobody add to a view that a function of ours returns.
    """
    result = rows.new_empty(*rows.shape[:-1], width)
    rows, places = rows.flatten(0, -2), result.view(-1, width)
    count = -(-len(rows) // MOST_ROWS)
    for part, place in zip(rows.tensor_split(count), places.tensor_split(count), strict=True):
        place.copy_(product(part))
    return result


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
            y = in_parts(self.form.forward(weight), x, self.base.out_features)
            if bias is not None:
                y += bias
        return y

    def backward8(self, gradient: Tensor) -> Tensor:
        with self.base.dense(gradient) as (weight, _):
            product = self.form.backward(weight)
        return in_parts(product, gradient, self.base.in_features)


class Products:
    """Wraps the frozen linears of a model; the same layer always by the same wrapper."""

    def __init__(self, frozen: Callable[[nn.Module], Dense], name: str) -> None:
        self.frozen, self.form = frozen, FORMATS[name]
        self.layers: dict[nn.Module, Linear8] = {}
        self.tried = False

    def __call__(self, module: nn.Module) -> FrozenBase:
        base = self.frozen(module)
        sides = (base.in_features, base.out_features)
        if any(side % self.form.multiple for side in sides) or base.input_scale is not None:
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
    try:
        multiply_once(name, device)
    except (RuntimeError, ImportError) as error:  # some of torch's builds lack some of the kernels
        kind = f"torch {torch.__version__} on a card of compute capability {has[0]}.{has[1]}"
        raise ValueError(
            f"matmul {name} is not to be had with {kind}: {str(error).splitlines()[0]} "
            "Choose another, or exact."
        ) from error


def multiply_once(name: str, device: torch.device) -> None:
    """Both products of a small weight; rows that fill no tile."""
    form, weight = FORMATS[name], torch.ones(128, 256, device=device)
    form.forward(weight)(weight.new_ones(100, 256))
    form.backward(weight)(weight.new_ones(100, 128)).sum().item()
