"""Attach a LoRA to a loaded network for training, and leave no trace of it afterwards.

Nothing is added to the module tree: `forward` is replaced on the instances and restored. ComfyUI's
Flux code does three things that autograd cannot handle, and each has a replacement here:

* weights are inference tensors, or live in reused buffers: no linear may save its weight for
  backward (`network.lora`), and normalisations work on a copy of theirs;
* residuals are added in place after a LayerNorm has saved its input: LayerNorm gets a copy;
* blocks overwrite their inputs, which recomputation needs: a checkpointed block gets copies.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
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
    keeping: bool = False,
    unread: Collection[str] = (),
) -> Iterator[None]:
    """Inside, `network` runs with the LoRA and is differentiable.

    `frozen` wraps a linear of the host, `is_linear` recognises one. `checkpointed` blocks recompute
    their activations in backward, from inputs kept in host memory if `offloaded`, with weights
    dequantised once for both if `keeping`, and without the products of the `unread` linears. A
    `compiler` replaces the blocks by compiled ones; `frozen` must then return TracedLinears.
    Afterwards, even after an error, every module has its own forward again.
    """
    bases: dict[nn.Module, FrozenBase] = {}
    idle: set[FrozenBase] = set()
    replaced: list[tuple[nn.Module, Forward | None]] = []

    def replace(module: nn.Module, forward: Forward) -> None:
        replaced.append((module, module.__dict__.get("forward")))
        module.forward = forward

    try:
        for name, module in network.named_modules():
            if is_linear(module):
                base = bases[module] = frozen(module)
                replace(module, linear_forward(base, lora, name))
                idle |= {base} if name in unread else set()
            elif isinstance(module, nn.RMSNorm):
                weight = compiler.copied(module.weight) if compiler else None
                replace(module, rms_norm_forward(module, weight))
            elif isinstance(module, nn.LayerNorm):
                replace(module, layer_norm_forward(module.forward))
        if compiler:
            for block in compiler.blocks:
                replace(block, compiler.forward(block))
        for block in checkpointed:
            inside = {bases[part] for part in block.modules() if part in bases}
            again = partial(computing_again, inside - idle if keeping else (), inside & idle)
            replace(block, checkpointed_forward(block.forward, offloaded, again))
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
    """x / √(mean(x²) + eps) · weight over the last dimension, recomputed in backward.

    x [..., size], weight [size]. Without a fused kernel, torch's own would keep float32 copies for
    backward: a fifth of a block's activations. Zhang & Sennrich 2019, eq. 4.
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
    """Whether an input is a sequence [B, tokens, C]: blocks overwrite some of these."""
    return isinstance(value, Tensor) and value.ndim == 3 and value.is_floating_point()


@contextmanager
def computing_again(keeping: Iterable[FrozenBase], unread: Iterable[FrozenBase]) -> Iterator[None]:
    """Inside, some linears keep their dequantised weight until backward, others compute nothing."""
    for linear in keeping:
        linear.keeping = True
    for linear in unread:
        linear.unread = True
    try:
        yield
    finally:
        for linear in (*keeping, *unread):
            linear.keeping = linear.unread = False


def checkpointed_forward(
    base: Forward, offloaded: bool, again: Callable[[], AbstractContextManager[None]]
) -> Forward:
    def on_copies(inputs: dict[str, Any], names: Iterable[str], *streams: Tensor) -> Any:
        copies = {name: stream.clone() for name, stream in zip(names, streams, strict=True)}
        return base(**inputs, **copies)

    def forward(x: Tensor | None = None, **inputs: Any) -> Any:
        if x is not None:  # ComfyUI passes a single block its input by position
            inputs["x"] = x
        if not torch.is_grad_enabled():
            return base(**inputs)
        # ComfyUI counts blocks in this dictionary: recomputation needs its present state
        inputs["transformer_options"] = dict(inputs["transformer_options"])
        names = [name for name, value in inputs.items() if is_stream(value)]
        streams = [inputs.pop(name) for name in names]
        with save_on_cpu(pin_memory=True) if offloaded else nullcontext():
            return checkpoint(
                on_copies,
                inputs,
                names,
                *streams,
                use_reentrant=False,
                preserve_rng_state=False,
                context_fn=lambda: (nullcontext(), again()),
            )

    return forward
