"""8-bit number formats, and products of matrices rounded to them (used by `matmul8`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

LARGEST_E4M3 = 448
BLOCK = 32  # values that share a scale in mxfp8

Product = Callable[[Tensor], Tensor]


class Format(Protocol):
    """A way to round two matrices to 8 bits and multiply them."""

    @property
    def name(self) -> str: ...

    @property
    def capability(self) -> tuple[int, int]:
        """The lowest compute capability of the graphics cards that support it."""

    @property
    def multiple(self) -> int:
        """The sides of a weight must be multiples of this."""

    def forward(self, weight: Tensor) -> Product:
        """A function x [m, in] ↦ x Wᵀ, for W [out, in], which is rounded right now."""

    def backward(self, weight: Tensor) -> Product:
        """A function g [m, out] ↦ g W, for W [out, in], which is rounded right now."""


# ---- one scale per row ---------------------------------------------------------------------


@dataclass(frozen=True)
class Rounded:
    """A matrix [rows, inner] as 8-bit values times a float32 scale per row, [rows, 1]."""

    values: Tensor
    scale: Tensor

    @property
    def transposed(self) -> Tensor:
        """The values [inner, rows], contiguous for a sum over the rows."""
        return self.values.T.contiguous()


@dataclass(frozen=True)
class RowScaled:
    """One scale per row: for a token's activations, for an output channel's weights.

    Both scales are constant in the sum of y = x Wᵀ. In g W the sum runs over the channels, so g is
    multiplied by their scales before it is rounded: one 8-bit weight serves both directions.

    `multiply(a, b, a_scale [m, 1], b_scale [1, n])` is the scaled product a [m, k] · bᵀ, b [n, k].
    """

    name: str
    dtype: torch.dtype
    largest: float
    capability: tuple[int, int]
    multiply: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    multiple: int = 16

    def round(self, matrix: Tensor) -> Rounded:
        """Scale each row by its largest value and round to nearest."""
        scale = largest_in(matrix, 1, keepdim=True).clamp_min(1e-30) / self.largest
        scaled = matrix / scale
        return Rounded(
            (scaled if self.dtype.is_floating_point else scaled.round_()).to(self.dtype), scale
        )

    def forward(self, weight: Tensor) -> Product:
        right = self.round(weight)

        def product(x: Tensor) -> Tensor:
            left = self.round(x)
            return self.multiply(left.values, right.values, left.scale, right.scale.T)

        return product

    def backward(self, weight: Tensor) -> Product:
        rounded = self.round(weight)
        right, channels = rounded.transposed, rounded.scale.T
        ones = channels.new_ones(1, right.shape[0])

        def product(gradient: Tensor) -> Tensor:
            left = self.round(gradient * channels)
            return self.multiply(left.values, right, left.scale, ones)

        return product


def largest_in(matrix: Tensor, dim: int, keepdim: bool = False) -> Tensor:
    """The largest magnitude along a dimension, float32, without a float32 copy of the matrix."""
    infinity = float("inf")
    return torch.linalg.vector_norm(matrix, infinity, dim, keepdim, dtype=torch.float32)


def int8_product(a: Tensor, b: Tensor, a_scale: Tensor, b_scale: Tensor) -> Tensor:
    return (torch._int_mm(a, b.T) * a_scale).mul_(b_scale)


def fp8_product(a: Tensor, b: Tensor, a_scale: Tensor, b_scale: Tensor) -> Tensor:
    """In hardware on a graphics card; elsewhere the same numbers in float32."""
    if a.is_cuda:
        return torch._scaled_mm(a, b.T, scale_a=a_scale, scale_b=b_scale, out_dtype=torch.bfloat16)
    return (a.float() @ b.float().T).mul_(a_scale).mul_(b_scale)


# ---- one scale per 32 values ---------------------------------------------------------------


@dataclass(frozen=True)
class ScaledMatrix:
    """A matrix [rows, inner] as e4m3 values times one power of two per 32 values of a row.

    `exponents`, uint8 [rows, inner / 32], are those of the powers plus 127: e8m0 of the OCP
    Microscaling Formats specification 1.0.
    """

    values: Tensor
    exponents: Tensor

    @property
    def powers(self) -> Tensor:
        """As float32, whose exponents have the same offset."""
        return (self.exponents.int() << 23).view(torch.float32)

    def dense(self) -> Tensor:
        blocks = self.values.float().unflatten(1, (-1, BLOCK))
        return (blocks * self.powers[..., None]).flatten(1)

    def scales(self) -> Tensor:
        """The exponents, flat, in the order that graphics cards read: tiles of 128 rows and 4
        blocks, in each tile rows 0, 32, 64, 96, 1, 33 … (cuBLAS, "1D block scaling factors
        layout")."""
        rows, blocks = self.exponents.shape
        padded = torch.nn.functional.pad(self.exponents, (0, -blocks % 4, 0, -rows % 128))
        tiles = padded.unflatten(0, (-1, 4, 32)).unflatten(3, (-1, 4))
        return tiles.permute(0, 3, 2, 1, 4).flatten().view(torch.float8_e8m0fnu)


@dataclass(frozen=True)
class BlockScaled:
    """mxfp8. Its scales vary along the sum, so each direction needs its own rounded weight."""

    name: str
    capability: tuple[int, int]
    multiple: int = BLOCK

    def round(self, matrix: Tensor) -> ScaledMatrix:
        """Scale each block by the smallest power of two at which its largest value fits, and round
        to nearest.

        For some blocks the specification's own formula gives half of that, which clips their
        largest values.
        """
        blocks = matrix.unflatten(1, (-1, BLOCK))
        needed = largest_in(blocks, 2) / LARGEST_E4M3
        # round up to a power of two, in the bits of a normal float32
        bits = needed.clamp_min(torch.finfo(torch.float32).tiny).view(torch.int32)
        exponents = (bits + (2**23 - 1)) >> 23
        scaled = blocks / (exponents << 23).view(torch.float32)[..., None]
        values = scaled.to(torch.float8_e4m3fn).flatten(1).contiguous()
        return ScaledMatrix(values, exponents.to(torch.uint8))

    def forward(self, weight: Tensor) -> Product:
        right = self.round(weight)
        return lambda x: mxfp8_product(self.round(x), right)

    def backward(self, weight: Tensor) -> Product:
        return self.forward(weight.T)


def mxfp8_product(a: ScaledMatrix, b: ScaledMatrix) -> Tensor:
    """a [m, k] · bᵀ, b [n, k], in hardware on a graphics card; elsewhere the same in float32.

    k is innermost in both, the only layout that compute capability 12 supports.
    """
    if not a.values.is_cuda:
        return a.dense() @ b.dense().T
    from torch.nn.functional import ScalingType, SwizzleType, scaled_mm  # torch 2.10

    by, order = ScalingType.BlockWise1x32, SwizzleType.SWIZZLE_32_4_4
    return scaled_mm(
        a.values, b.values.T, a.scales(), by, b.scales(), by, order, order,
        output_dtype=torch.bfloat16,
    )  # fmt: skip


FORMATS: dict[str, Format] = {
    "int8": RowScaled("int8", torch.int8, 127, (8, 0), int8_product),
    "fp8": RowScaled("fp8", torch.float8_e4m3fn, LARGEST_E4M3, (8, 9), fp8_product),
    "mxfp8": BlockScaled("mxfp8", (10, 0)),
}
