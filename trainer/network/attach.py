"""Attach a LoRA to a loaded network for training, and leave no trace of it afterwards.

Nothing is added to the module tree: `forward` is replaced on the instances and restored. ComfyUI's
Flux code does three things that autograd cannot handle, and each has a replacement here:

* weights are inference tensors, or live in reused buffers: no linear may save its weight for
  backward (`network.lora`), and normalisations work on a copy of theirs;
* residuals are added in place after a LayerNorm has saved its input: LayerNorm gets a copy;
* blocks overwrite their inputs, which checkpointing needs again: a checkpointed block gets copies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.autograd.graph import save_on_cpu
from torch.utils.checkpoint import checkpoint

from .frozen import Forward, FrozenBase
from .lora import Lora, frozen_linear

if TYPE_CHECKING:
    from .compile import Compiler


@contextmanager
def attached(
    network: nn.Module,
    lora: Lora,
    frozen: Callable[[nn.Module], FrozenBase],
    is_linear: Callable[[nn.Module], bool],
    checkpointed: Iterable[nn.Module] = (),
    offloaded: bool = False,
    compiler: Compiler | None = None,
) -> Iterator[None]:
    """Inside, `network` runs with the LoRA and is differentiable.

    `frozen` wraps a linear of the host, `is_linear` recognises one. `checkpointed` blocks compute
    their activations again in backward, from inputs kept in host memory if `offloaded`. A
    `compiler` replaces the blocks by compiled ones; `frozen` must then return TracedLinears.
    Afterwards, even after an error, every module has its own forward again.
    """
    replaced: list[tuple[nn.Module, Forward | None]] = []

    def replace(module: nn.Module, forward: Forward) -> None:
        replaced.append((module, module.__dict__.get("forward")))
        module.forward = forward

    try:
        for name, module in network.named_modules():
            if is_linear(module):
                replace(module, linear_forward(frozen(module), lora, name))
            elif isinstance(module, nn.RMSNorm):
                weight = compiler.copied(module.weight) if compiler else None
                replace(module, rms_norm_forward(module, weight))
            elif isinstance(module, nn.LayerNorm):
                replace(module, layer_norm_forward(module.forward))
        if compiler:
            for block in compiler.blocks:
                replace(block, compiler.forward(block))
        for block in checkpointed:
            replace(block, checkpointed_forward(block.forward, offloaded))
        yield
    finally:
        for module, before in reversed(replaced):
            if before is None:
                del module.forward
            else:
                module.forward = before


def linear_forward(base: FrozenBase, lora: Lora, name: str) -> Forward:
    layer = lora.layers.get(name)
    place = torch.tensor(list(lora.layers).index(name) if layer else 0)

    def forward(x: Tensor) -> Tensor:
        if layer is not None and lora.strength:
            return layer(x, base, lora.strength, lora.drop(place))
        return frozen_linear(x, base)

    return forward


def rms_norm_forward(module: nn.RMSNorm, copied: Tensor | None) -> Forward:
    def forward(x: Tensor) -> Tensor:
        if copied is not None and torch.compiler.is_compiling():  # recomputes it by itself
            return nn.functional.rms_norm(x, copied.shape, copied, module.eps)
        weight = module.weight.detach().to(x.device, x.dtype, copy=True)
        return RmsNorm.apply(x, weight, module.eps)

    return forward


class RmsNorm(torch.autograd.Function):
    """x / √(mean(x²) + eps) · weight over the last dimension, computed again in backward.

    x [..., size], weight [size]. Without a fused kernel, torch's own would keep float32 copies for
    backward: a fifth of all that a block keeps. Zhang & Sennrich 2019, eq. 4.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.eps = eps
        return nn.functional.rms_norm(x, weight.shape, weight, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            y = nn.functional.rms_norm(x, weight.shape, weight, ctx.eps)
        return *torch.autograd.grad(y, x, gradient), None, None


def layer_norm_forward(base: Forward) -> Forward:
    def forward(x: Tensor) -> Tensor:
        return base(x.clone() if x.requires_grad else x)

    return forward


def is_stream(value: Any) -> bool:
    """Whether a block's input is a sequence [B, tokens, C]: blocks overwrite some of these."""
    return isinstance(value, Tensor) and value.ndim == 3 and value.is_floating_point()


def checkpointed_forward(base: Forward, offloaded: bool) -> Forward:
    def on_copies(inputs: dict[str, Any], names: Iterable[str], *streams: Tensor) -> Any:
        copies = {name: stream.clone() for name, stream in zip(names, streams, strict=True)}
        return base(**inputs, **copies)

    def forward(x: Tensor | None = None, **inputs: Any) -> Any:
        if x is not None:  # ComfyUI passes a single block its input by position
            inputs["x"] = x
        if not torch.is_grad_enabled():
            return base(**inputs)
        # ComfyUI counts blocks in this dictionary: recomputing needs it as it is now
        inputs["transformer_options"] = dict(inputs["transformer_options"])
        names = [name for name, value in inputs.items() if is_stream(value)]
        streams = [inputs.pop(name) for name in names]
        with save_on_cpu(pin_memory=True) if offloaded else nullcontext():
            return checkpoint(
                on_copies, inputs, names, *streams, use_reentrant=False, preserve_rng_state=False
            )

    return forward
