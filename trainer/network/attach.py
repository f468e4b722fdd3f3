"""Attach a LoRA to a loaded FLUX.1 for training, and leave no trace of it afterwards.

Nothing is added to the module tree: `forward` is replaced on the instances and put back. Three
habits of ComfyUI's Flux code stand in autograd's way, and each has its replacement here:

* weights are inference tensors, or live in buffers that are used again: no linear may save its
  weight for backward (`network.lora`), and normalisations work on a copy of theirs;
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

from .frozen import STREAMS, Forward, FrozenBase
from .lora import Lora, through

if TYPE_CHECKING:
    from .compile import Compiler


@contextmanager
def attached(
    flux: nn.Module,
    lora: Lora,
    frozen: Callable[[nn.Module], FrozenBase],
    is_linear: Callable[[nn.Module], bool],
    checkpointed: Iterable[nn.Module] = (),
    offloaded: bool = False,
    compiler: Compiler | None = None,
) -> Iterator[None]:
    """Run `flux` with the LoRA, differentiably, inside the block.

    `frozen` wraps a linear of the host, `is_linear` recognises one; `checkpointed` blocks compute
    their activations again in backward, from inputs that wait in host memory if `offloaded`. With a
    `compiler` the blocks are its compiled ones; `frozen` must then give opaque linears. On the way
    out, whatever the reason, every module has its own forward again.
    """
    replaced: list[tuple[nn.Module, Forward | None]] = []

    def replace(module: nn.Module, forward: Forward) -> None:
        replaced.append((module, module.__dict__.get("forward")))
        module.forward = forward

    try:
        for name, module in flux.named_modules():
            if is_linear(module):
                replace(module, linear_forward(frozen(module), lora, name))
            elif isinstance(module, nn.RMSNorm):
                plain = compiler.plain(module.weight) if compiler else None
                replace(module, rms_norm_forward(module, plain))
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
        return through(x, base)

    return forward


def rms_norm_forward(module: nn.RMSNorm, plain: Tensor | None) -> Forward:
    def forward(x: Tensor) -> Tensor:
        if plain is not None and torch.compiler.is_compiling():  # which computes it again by itself
            return nn.functional.rms_norm(x, plain.shape, plain, module.eps)
        weight = module.weight.detach().to(x.device, x.dtype, copy=True)
        return RmsNorm.apply(x, weight, module.eps)

    return forward


class RmsNorm(torch.autograd.Function):
    """Torch's RMS norm, whose inside is computed again in backward.

    Where torch has no fused kernel it keeps float32 copies: a fifth of all that a block keeps.
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


def checkpointed_forward(base: Forward, offloaded: bool) -> Forward:
    def on_copies(inputs: dict[str, Any], names: Iterable[str], *streams: Tensor) -> Any:
        copies = {name: stream.clone() for name, stream in zip(names, streams, strict=True)}
        return base(**inputs, **copies)

    def forward(x: Tensor | None = None, **inputs: Any) -> Any:
        if x is not None:  # single blocks get theirs by position
            inputs["x"] = x
        if not torch.is_grad_enabled():
            return base(**inputs)
        # ComfyUI counts blocks in this dictionary as it goes: recomputing needs it as it was
        inputs["transformer_options"] = dict(inputs["transformer_options"])
        names = [name for name in STREAMS if name in inputs]
        streams = [inputs.pop(name) for name in names]
        with save_on_cpu(pin_memory=True) if offloaded else nullcontext():
            return checkpoint(
                on_copies, inputs, names, *streams, use_reentrant=False, preserve_rng_state=False
            )

    return forward
