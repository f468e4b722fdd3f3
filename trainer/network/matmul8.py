"""Matrix products in 8 bits, forward and backward, where they are precise enough.

`formats8` has the number formats. No 8-bit weights are stored: they are rounded at each use.

At the start, one step is computed both exactly and in 8 bits. A layer then uses 8 bits in those
directions (forward, backward) in which its results were close enough to the exact ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ...language import say
from ..config import ConfigError
from .formats8 import FORMATS, Format, Product
from .frozen import FrozenBase, Sized

# Relative error below which an 8-bit product is used. fp8 and mxfp8 are 3.7 % off for any values,
# int8 0.8 % for evenly sized ones and more with outliers: 6 % if these are 25 times as large
TOLERANCE = 0.06
FEWEST_ROWS = 64  # with fewer tokens, most of the time goes into reading the weight
MOST_ROWS = 4096  # at a time: the unscaled product takes 32 bits per value


class Dense(FrozenBase, Sized, Protocol):
    """A frozen linear that can return its dense weight and bias."""

    @property
    def input_scale(self) -> Tensor | None: ...

    def dense(self, like: Tensor) -> AbstractContextManager[tuple[Tensor, Tensor | None]]: ...


def in_parts(product: Product, rows: Tensor, width: int) -> Tensor:
    """The product, computed on equal parts of the rows, so that its temporary tensors stay small.

    The result is not a view: autograd forbids in-place changes to a view returned by a Function.
    """
    result = rows.new_empty(*rows.shape[:-1], width)
    rows, places = rows.flatten(0, -2), result.view(-1, width)
    count = -(-len(rows) // MOST_ROWS)
    for part, place in zip(rows.tensor_split(count), places.tensor_split(count), strict=True):
        place.copy_(product(part))
    return result


class EightBitLinear:
    """A frozen linear that multiplies in 8 bits in the directions that are precise enough."""

    keeping = unread = False  # never used here: the weight is rounded for each direction

    def __init__(self, base: Dense, form: Format) -> None:
        self.base, self.form = base, form
        self.trying = False
        self.errors: dict[str, float] = {}  # largest relative error, by direction

    def forward(self, x: Tensor) -> Tensor:
        return self.multiply("forward", x, self.base.forward, self.forward8)

    def backward(self, gradient: Tensor) -> Tensor:
        return self.multiply("backward", gradient, self.base.backward, self.backward8)

    def rows_times_weight(self, rows: Tensor) -> Tensor:
        return self.base.rows_times_weight(rows)

    def column_norms(self, device: torch.device) -> Tensor:
        return self.base.column_norms(device)

    def multiply(
        self,
        direction: str,
        x: Tensor,
        exact: Callable[[Tensor], Tensor],
        rounded: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """The exact product, or the rounded one if the trial found it close enough."""
        if x.numel() < FEWEST_ROWS * x.shape[-1]:
            return exact(x)
        if self.trying:
            y = exact(x)
            size = y.float().norm().clamp_min(1e-30)  # a product of zeros counts as equal
            error = ((rounded(x) - y).float().norm() / size).item()
            self.errors[direction] = max(error, self.errors.get(direction, 0.0))
            return y
        return rounded(x) if self.errors.get(direction, 1.0) < TOLERANCE else exact(x)

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


class EightBitLayers:
    """Wraps the frozen linears of a model, each always in the same wrapper."""

    def __init__(self, frozen: Callable[[nn.Module], Dense], name: str) -> None:
        self.frozen, self.form = frozen, FORMATS[name]
        self.layers: dict[nn.Module, EightBitLinear] = {}
        self.tried = False

    def __call__(self, module: nn.Module) -> FrozenBase:
        base = self.frozen(module)
        sides = (base.in_features, base.out_features)
        if any(side % self.form.multiple for side in sides) or base.input_scale is not None:
            return base
        layer = self.layers.setdefault(module, EightBitLinear(base, self.form))
        layer.base = base
        return layer

    @contextmanager
    def trying(self) -> Iterator[None]:
        """Inside, results are exact, and compared with those in 8 bits.

        Afterwards, layers use 8 bits where that was precise enough.
        """
        for layer in self.layers.values():
            layer.trying = True
        yield
        for layer in self.layers.values():
            layer.trying = False
        self.tried = True

    def summary(self) -> str:
        """The share of products computed in 8 bits, and their largest error."""
        errors = [error for layer in self.layers.values() for error in layer.errors.values()]
        used = [error for error in errors if error < TOLERANCE]
        counts = {"format": self.form.name, "used": len(used), "count": len(errors)}
        if not used:
            return say("{format}: {used} of {count} matrix products", **counts)
        return say(
            "{format}: {used} of {count} matrix products, at most {error} off",
            **counts,
            error=f"{max(used):.1%}",
        )


def check_device(name: str, device: torch.device) -> None:
    """Raise ConfigError if products in this format are not available on this device."""
    if name == "exact" or device.type == "cpu":  # on a CPU they are only slow
        return
    needed = FORMATS[name].capability
    has: Any = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    if torch.version.hip or has is None or has < needed:
        kind = (
            say("compute capability {version}", version=version(has))
            if has
            else device.type.upper()
        )
        raise ConfigError(
            say(
                "matmul {name} needs an NVIDIA card of compute capability {needed} or newer; this "
                "is {device}. Choose exact.",
                name=name,
                needed=version(needed),
                device=kind,
            )
        )
    try:
        multiply_once(name, device)
    except (RuntimeError, ImportError) as error:  # some builds of torch lack some of the kernels
        raise ConfigError(
            say(
                "matmul {name} is not available with torch {torch} on a card of compute capability "
                "{capability}: {error} Choose another format, or exact.",
                name=name,
                torch=torch.__version__,
                capability=version(has),
                error=str(error).splitlines()[0],
            )
        ) from error


def version(capability: tuple[int, int]) -> str:
    major, minor = capability
    return f"{major}.{minor}"


def multiply_once(name: str, device: torch.device) -> None:
    """Compute both products for a small weight; the number of rows is not a multiple of a tile."""
    form, weight = FORMATS[name], torch.ones(128, 256, device=device)
    form.forward(weight)(weight.new_ones(100, 256))
    form.backward(weight)(weight.new_ones(100, 128)).sum().item()
