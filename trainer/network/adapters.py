"""The other adapters: DoRA, LoKr and LoHa, as ComfyUI's weight adapters apply them.

Parameters are named as in LoRA files. Like LoRA, each adapter is applied to the input: none needs
the dense weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from ...language import say
from ..config import ConfigError, TrainConfig
from .frozen import FrozenBase
from .lora import Adapter, Drop, Lora, LowRank, frozen_linear, with_low_rank

EPSILON = torch.finfo(torch.float32).eps  # ComfyUI adds it to a norm before dividing by it


def adapter_kind(config: TrainConfig) -> Callable[..., Adapter]:
    """The constructor of a run's adapters."""
    kinds: dict[str, Callable[..., Adapter]] = {
        "lora": LowRank,
        "dora": Dora,
        "lokr": partial(Kronecker, factor=config.lokr_factor),
        "loha": Hadamard,
    }
    return kinds[config.adapter]


def adapter_units(config: TrainConfig) -> int:
    """Memory that this adapter briefly needs on top of plain LoRA, in the memory plan's units.

    DoRA scales the inputs of the largest layer in float32; dropout makes masks for them.
    """
    return {"lora": 0, "dora": 14, "lokr": 2, "loha": 2}[config.adapter] + 4 * (config.dropout > 0)


def measure(lora: Lora, linears: Mapping[str, FrozenBase], device: torch.device) -> None:
    """Store the column norms of the loaded base weights in DoRA's layers."""
    for name, layer in lora.layers.items():
        if isinstance(layer, Dora):
            layer.norms.copy_(linears[name].column_norms(device))


def uniform(rows: int, columns: int, seed: torch.Generator) -> nn.Parameter:
    """Kaiming uniform with a = √5, as LoRA's `down`."""
    bound = 1 / math.sqrt(columns)
    return nn.Parameter(torch.empty(rows, columns).uniform_(-bound, bound, generator=seed))


def zeros(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(shape))


class Dora(LowRank):
    """W' = (W + ΔW) · m / ‖W + ΔW‖, with one norm per column (Liu et al. 2024, eq. 5).

    m starts as ‖W‖; `magnitude` [in] is its relative change, so that weight decay pulls it to the
    base and not to zero. Gradients treat the norm in the denominator as constant (section 4.3).

    A column belongs to an input, so W'x = (W + ΔW)(gain ∘ x): one pass through the base. PEFT
    uses rows instead; ComfyUI also reads those, from a `dora_scale` of [out, 1], but divides by
    ‖W‖ there, not by ‖W + ΔW‖.
    """

    norms: Tensor  # ‖W‖ [in], set by `measure` before the first step

    def __init__(
        self, in_features: int, out_features: int, rank: int, scale: float, seed: torch.Generator
    ) -> None:
        super().__init__(in_features, out_features, rank, scale, seed)
        self.magnitude = zeros(in_features)
        self.register_buffer("norms", torch.full((in_features,), math.nan))

    def gain(self, base: FrozenBase, dtype: torch.dtype) -> Tensor:
        """m / ‖W + ΔW‖ [in].

        ‖W + ΔW‖² = ‖W‖² + 2 W·ΔW + ‖ΔW‖² in each column: this takes a product of `rank` rows with
        the weight, and no dense matrix.
        """
        with torch.no_grad():
            up_weight = base.rows_times_weight(self.up.T.to(dtype)).float()  # upᵀ W
            up_delta = (self.up.T @ self.up) @ self.down  # upᵀ up down
            change = self.scale * (self.down * (2 * up_weight + self.scale * up_delta)).sum(0)
            norms = (self.norms.square() + change).clamp_min(0).sqrt() + EPSILON
        return (1 + self.magnitude) * (self.norms / norms)

    def forward(
        self, x: Tensor, base: FrozenBase, strength: float = 1.0, drop: Drop | None = None
    ) -> Tensor:
        gain = self.gain(base, x.dtype)
        if drop is None and strength == 1:
            if torch.compiler.is_compiling():  # recomputes the product in backward by itself
                gained = gained_input(x, gain)
                return with_low_rank(gained, gained, base, self.down, self.up, self.scale)
            return DoraLinear.apply(x, gain, base, self.down, self.up, self.scale)
        dropped = x if drop is None else drop(x)
        gained = gained_input(dropped, gain)
        whole = x + strength * (gained - dropped)
        return with_low_rank(whole, gained, base, self.down, self.up, self.scale * strength)

    def file_parts(self) -> dict[str, Tensor]:
        scale = (1 + self.magnitude) * self.norms
        return {"down": self.down, "up": self.up, "dora_scale": scale[None]}

    def from_file(self, parts: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
        changed = super().from_file(parts, scale)
        dora_scale = changed.pop("dora_scale", None)
        if dora_scale is None:
            return changed
        if dora_scale.shape != (1, len(self.norms)):
            raise ConfigError(
                say(
                    "The DoRA to start from has a dora_scale of {shape}, by rows of the weight. "
                    "Here it must be {own_shape}, by columns.",
                    shape=tuple(dora_scale.shape),
                    own_shape=(1, len(self.norms)),
                )
            )
        norms = self.norms.to(dora_scale.device)
        return {**changed, "magnitude": dora_scale[0].float() / norms.clamp_min(EPSILON) - 1}


def gained_input(x: Tensor, gain: Tensor) -> Tensor:
    """gain ∘ x, multiplied in float32: bfloat16 has no number between 1 and 1.008."""
    return (x * gain).to(x.dtype)


class DoraLinear(torch.autograd.Function):
    """y = base(gain ∘ x) + scale · ((gain ∘ x) downᵀ) upᵀ, with a gradient for the gain [in] too.

    x [..., in], down [rank, in], up [out, rank], as in LoraLinear. Keeps x, not gain ∘ x, which is
    computed again in backward. Liu et al. 2024, section 4.3.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gain: Tensor, base: FrozenBase, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        gained = gained_input(x, gain)
        y = base.forward(gained)
        low = linear(gained, down.to(x.dtype))
        y.view(-1, y.shape[-1]).addmm_(low.flatten(0, -2), up.to(x.dtype).T, alpha=scale)
        ctx.save_for_backward(x, gain, low, down, up)
        ctx.base, ctx.scale = base, scale
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, gain, low, down, up = ctx.saved_tensors
        low_gradient = gradient @ (up.to(gradient.dtype) * ctx.scale)
        up_gradient = gradient.flatten(0, -2).T @ low.flatten(0, -2) * ctx.scale
        down_gradient = low_gradient.flatten(0, -2).T @ gained_input(x, gain).flatten(0, -2)
        gained = ctx.base.backward(gradient) + low_gradient @ down.to(gradient.dtype)
        gain_gradient = (gained * x).flatten(0, -2).sum(0, dtype=torch.float32)
        x_gradient = gained_input(gained, gain) if ctx.needs_input_grad[0] else None
        trained = down_gradient.to(down.dtype), up_gradient.to(up.dtype)
        return x_gradient, gain_gradient, None, *trained, None


class Kronecker(Adapter):
    """LoKr: ΔW = scale · w1 ⊗ w2, w2 = w2_a w2_b or, at a large rank, full (Yeh et al. 2024).

    `factor` limits the rows and columns of w1 [a, b]; 0 makes w1 and w2 about equally large. w2_a,
    or a full w2, starts at zero, the others as LoRA's `down`, so that the first steps are as large
    as LoRA's. ComfyUI ignores the scale if w2 is full, and so does this.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        rank: int,
        scale: float,
        seed: torch.Generator,
        factor: int = 0,
    ) -> None:
        super().__init__()
        a, c = factors(out_features, factor)
        self.b, d = factors(in_features, factor)
        self.low = rank < max(c, d) / 2
        self.scale = scale if self.low else 1.0
        self.lokr_w1 = uniform(a, self.b, seed)
        if self.low:
            self.lokr_w2_a, self.lokr_w2_b = zeros(c, rank), uniform(rank, d, seed)
        else:
            self.lokr_w2 = zeros(c, d)
        self.last = "lokr_w2_a" if self.low else "lokr_w2"

    def forward(
        self, x: Tensor, base: FrozenBase, strength: float = 1.0, drop: Drop | None = None
    ) -> Tensor:
        w2 = self.lokr_w2_a if self.low else self.lokr_w2
        split = (x if drop is None else drop(x)).unflatten(-1, (self.b, -1))
        if self.low:
            split = linear(split, self.lokr_w2_b.to(x.dtype))
        # w1 comes second, where the activations are smallest
        mixed = linear(split.transpose(-1, -2), self.lokr_w1.to(x.dtype)).transpose(-1, -2)
        change = linear(mixed, w2.to(x.dtype)).flatten(-2)
        return frozen_linear(x, base) + self.scale * strength * change

    def from_file(self, parts: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
        return super().from_file(parts, scale if self.low else 1.0)


def factors(size: int, most: int) -> tuple[int, int]:
    """Factorise `size`: the largest factor up to √size (and `most`, unless 0), and its cofactor."""
    largest = min(most or size, math.isqrt(size))
    first = max(factor for factor in range(1, largest + 1) if size % factor == 0)
    return first, size // first


class Hadamard(Adapter):
    """LoHa: ΔW = scale · (w1_a w1_b) ∘ (w2_a w2_b), of a rank up to rank² (Hyeon-Woo et al. 2022).

    Computed as a LoRA of rank rank², whose columns and rows are elementwise products of these.
    w1_a w1_b starts with values of size 1 and the rest as LoRA does, so that the first steps are as
    large as LoRA's and the same learning rate fits.
    """

    def __init__(
        self, in_features: int, out_features: int, rank: int, scale: float, seed: torch.Generator
    ) -> None:
        super().__init__()
        self.last, self.scale = "hada_w2_a", scale
        normal = partial(torch.randn, generator=seed)
        self.hada_w1_a = nn.Parameter(normal(out_features, rank) / math.sqrt(rank))
        self.hada_w1_b = nn.Parameter(normal(rank, in_features))
        self.hada_w2_a = zeros(out_features, rank)
        self.hada_w2_b = uniform(rank, in_features, seed)

    def forward(
        self, x: Tensor, base: FrozenBase, strength: float = 1.0, drop: Drop | None = None
    ) -> Tensor:
        down = (self.hada_w1_b[:, None] * self.hada_w2_b).flatten(0, 1)
        up = (self.hada_w1_a[:, :, None] * self.hada_w2_a[:, None]).flatten(1)
        dropped = x if drop is None else drop(x)
        return with_low_rank(x, dropped, base, down, up, self.scale * strength)
