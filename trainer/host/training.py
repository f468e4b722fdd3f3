"""Training on the weights that ComfyUI has loaded: its switches, and the forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..batch import DTYPES, Text
from .device import swapped
from .names import comfy_module
from .rotation import rotated

if TYPE_CHECKING:
    from comfy.model_base import BaseModel
    from comfy.model_patcher import ModelPatcher as Model

flux_math = comfy_module("comfy.ldm.flux.math")
memory = comfy_module("comfy.model_management")
attention = comfy_module("comfy.ldm.modules.attention")


def training_dtype(model: Model, name: str) -> torch.dtype:
    """Compute dtype for `bf16`, `fp16`, `fp32`, or for `auto` the one ComfyUI computes in."""
    return DTYPES[name] if name in DTYPES else model.model.get_dtype_inference()


def for_training(model: Model) -> Model:
    """A clone that shares the weights and keeps their LoRA patches, but not the wrappers, hooks
    and replaced objects of other nodes: those apply to sampling only."""
    bare = model.clone()
    bare.object_patches, bare.weight_wrapper_patches, bare.injections = {}, {}, {}
    bare.wrappers = {kind: {} for kind in bare.wrappers}
    bare.callbacks = {kind: {} for kind in bare.callbacks}
    bare.model_options = {**bare.model_options, "transformer_options": {}}
    return bare


def predict_velocity(
    model: BaseModel,
    noised: Tensor,
    sigma: Tensor,
    text: Text,
    references: Sequence[Tensor],
    guidance: float,
    method: str = "",
    **more: Any,
) -> Tensor:
    """The network's output, `noise - latent`, as `apply_model` calls it.

    `noised` and `references` are normalised latents in the compute dtype, `sigma` [B] float32,
    `text` of batch size B. `method`, unless empty, replaces the network's own way of placing the
    references; `more` are further entries of a conditioning. The model's own `extra_conds` turns
    them into its inputs, except for the references, which it would normalise again.
    """
    batch, dtype, device = noised.shape[0], noised.dtype, noised.device
    conditions = model.extra_conds(
        cross_attn=text.cond,
        pooled_output=text.pooled,
        attention_mask=text.mask,
        guidance=guidance,
        noise=noised,
        device=device,
        **more,
    )
    inputs = {
        name: condition.process_cond(batch_size=batch, device=device, area=None).cond
        for name, condition in conditions.items()
    }
    for name, value in inputs.items():
        if isinstance(value, Tensor):
            inputs[name] = value.to(device, dtype if value.is_floating_point() else None)
    if references:
        inputs["ref_latents"] = list(references)
        inputs |= {"ref_latents_method": method} if method else {}
    return model.diffusion_model(
        noised,
        sigma,
        context=inputs.pop("c_crossattn"),
        transformer_options={"optimized_attention_override": plain_attention},
        **inputs,
    )


def plain_attention(_selected: Callable, *args: Any, **options: Any) -> Tensor:
    """Torch's attention, whatever backend the user selected: most others have no backward."""
    return attention.attention_pytorch(*args, **options)


@contextmanager
def differentiable() -> Iterator[None]:
    """Inside, all operations have a backward, and shortcuts meant for sampling are off.

    ComfyUI's own switch replaces its fused rotary kernels by a function for which autograd keeps a
    lot. Some packs put an attention without a backward into Flux's module itself; `--fast`
    accumulates float16 products in float16.
    """
    with (
        swapped(memory, "in_training", True),
        swapped(flux_math, "_apply_rope", rotated),
        swapped(flux_math, "optimized_attention", attention.attention_pytorch),
        swapped(torch.backends.cuda.matmul, "allow_fp16_accumulation", False),
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        yield


@contextmanager
def sampling_allowed() -> Iterator[None]:
    """Inside `differentiable`: ComfyUI as it is for inference, to sample with a live LoRA."""
    with (
        swapped(memory, "in_training", False),
        swapped(flux_math, "optimized_attention", attention.optimized_attention),
        torch.inference_mode(),
    ):
        yield


@contextmanager
def computing_with(threads: int) -> Iterator[None]:
    """Inside, torch uses this many CPU threads, which decide the order of its sums."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
