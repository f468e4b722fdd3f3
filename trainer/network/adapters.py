"""The adapters beside plain LoRA: DoRA, LoKr and LoHa, as ComfyUI's weight adapters apply them.

Parameters bear the names they have in files. None of them needs the dense weight, or keeps one:
each is applied to the input, as LoRA is.
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

from ..config import TrainConfig
from .frozen import FrozenBase
from .lora import Adapter, Drop, Lora, LowRank, through, with_pair

ADAPTERS = {
    "lora": "two thin matrices: the fastest, and what every program reads.",
    "dora": "LoRA that learns directions and strengths apart: closer to full training, slower.",
    "lokr": "a Kronecker product: files many times smaller.",
    "loha": "a product of two LoRAs, whose rank counts squared, up to 32.",
}
EPSILON = torch.finfo(torch.float32).eps  # ComfyUI adds it to a length before dividing by it


def adapter_kind(config: TrainConfig) -> Callable[..., Adapter]:
    """What makes the adapter of one linear."""
    kinds: dict[str, Callable[..., Adapter]] = {
        "lora": LowRank,
        "dora": Dora,
        "lokr": partial(Kronecker, factor=config.lokr_factor),
        "loha": Hadamard,
    }
    return kinds[config.adapter]


def adapter_units(config: TrainConfig) -> int:
    """Units of memory, as the plan counts them, that this kind takes more for a moment.

    DoRA scales the inputs of the largest layer in float32; dropout makes masks for them.
    """
    return {"lora": 0, "dora": 14, "lokr": 2, "loha": 2}[config.adapter] + 4 * (config.dropout > 0)


def measure(lora: Lora, linears: Mapping[str, FrozenBase], device: torch.device) -> None:
    """Tell DoRA's layers how long the columns of the loaded base are."""
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
    """W' = (W + ΔW) · m / ‖W + ΔW‖, lengths taken column by column (Liu et al. 2024).

    m starts as ‖W‖; `magnitude` [in] is its relative change, so that weight decay draws it to the
    base and not to zero. The length in the denominator is constant to gradients (section 4.3).

    A column is an input, which makes W'x = (W + ΔW)(gain ∘ x): one pass through the base. PEFT
    takes rows instead; ComfyUI reads those with a `dora_scale` of [out, 1] too, but divides by
    ‖W‖ there, not by ‖W + ΔW‖.
    """

    norms: Tensor  # ‖W‖, to be measured before anything else

    def __init__(
        self, in_features: int, out_features: int, rank: int, scale: float, seed: torch.Generator
    ) -> None:
        super().__init__(in_features, out_features, rank, scale, seed)
        self.magnitude = zeros(in_features)
        self.register_buffer("norms", torch.full((in_features,), math.nan))

    def gain(self, base: FrozenBase, dtype: torch.dtype) -> Tensor:
        """m / ‖W + ΔW‖ [in]. Costs a product of `rank` rows with the weight, and no memory:
        ‖W + ΔW‖² = ‖W‖² + 2 W·ΔW + ‖ΔW‖², column by column."""
        with torch.no_grad():
            across = base.across(self.up.T.to(dtype)).float()  # upᵀ W
            within = (self.up.T @ self.up) @ self.down
            change = self.scale * (self.down * (2 * across + self.scale * within)).sum(0)
            lengths = (self.norms.square() + change).clamp_min(0).sqrt() + EPSILON
        return (1 + self.magnitude) * (self.norms / lengths)

    def forward(
        self, x: Tensor, base: FrozenBase, strength: float = 1.0, drop: Drop | None = None
    ) -> Tensor:
        gain = self.gain(base, x.dtype)
        if drop is None and strength == 1:
            if torch.compiler.is_compiling():  # which makes the product again by itself
                gained = gained_input(x, gain)
                return with_pair(gained, gained, base, self.down, self.up, self.scale)
            return DoraLinear.apply(x, gain, base, self.down, self.up, self.scale)
        dropped = x if drop is None else drop(x)
        gained = gained_input(dropped, gain)
        whole = x + strength * (gained - dropped)
        return with_pair(whole, gained, base, self.down, self.up, self.scale * strength)

    def file_parts(self) -> dict[str, Tensor]:
        scale = (1 + self.magnitude) * self.norms
        return {"down": self.down, "up": self.up, "dora_scale": scale[None]}

    def from_file(self, parts: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
        changed = super().from_file(parts, scale)
        given = changed.pop("dora_scale", None)
        if given is None:
            return changed
        if given.shape != (1, len(self.norms)):
            raise ValueError(
                f"The DoRA to start from has a dora_scale of {tuple(given.shape)}: it measures the "
                f"weight by rows. Here it must be (1, {len(self.norms)}), by columns."
            )
        norms = self.norms.to(given.device)
        return {**changed, "magnitude": given[0].float() / norms.clamp_min(EPSILON) - 1}


def gained_input(x: Tensor, gain: Tensor) -> Tensor:
    """x with its columns scaled, in float32: bfloat16 has no number between 1 and 1.008."""
    return (x * gain).to(x.dtype)


class DoraLinear(torch.autograd.Function):
    """LoraLinear of gain ∘ x, which keeps x alone: the product is made again in backward."""

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

    `factor` is the most rows and columns that w1 [a, b] may have, 0 for nearly square w1 and w2.
    w2_a, or a full w2, starts at zero, the others as LoRA's `down`: first steps are as large as
    LoRA's. ComfyUI leaves the scale out where w2 is full, and so does this.
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
        # w1 in the middle, where the activations are smallest
        mixed = linear(split.transpose(-1, -2), self.lokr_w1.to(x.dtype)).transpose(-1, -2)
        change = linear(mixed, w2.to(x.dtype)).flatten(-2)
        return through(x, base) + self.scale * strength * change

    def from_file(self, parts: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
        return super().from_file(parts, scale if self.low else 1.0)


def factors(size: int, most: int) -> tuple[int, int]:
    """Two factors of `size`, the first the smaller, and as large as it can be up to `most`."""
    largest = min(most or size, math.isqrt(size))
    first = max(factor for factor in range(1, largest + 1) if size % factor == 0)
    return first, size // first


class Hadamard(Adapter):
    """LoHa: ΔW = scale · (w1_a w1_b) ∘ (w2_a w2_b), of a rank up to rank² (Hyeon-Woo et al. 2022).

    That product is a low-rank pair of rank² columns and rows, each an outer product of theirs, and
    is computed as one. w1_a w1_b starts with values of size 1 and the rest as LoRA does: its first
    steps are as large as LoRA's, and the same learning rate fits.
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
        return with_pair(x, dropped, base, down, up, self.scale * strength)
