"""What touches ComfyUI's internals: its encoders, sampler and memory; weights: `host_weights`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.conds
import comfy.ldm.flux.math as flux_math
import comfy.lora
import comfy.lora_convert
import comfy.model_base
import comfy.model_management as memory
import comfy.sample
import comfy.samplers
import comfy.sd
import comfy.text_encoders.flux
import comfy.utils
import torch
from comfy.ldm.flux.model import Flux
from comfy.ldm.modules.attention import attention_pytorch, optimized_attention
from comfy.model_patcher import ModelPatcher as Model
from torch import Tensor, nn

from .batches import Text
from .host_progress import Progress as Progress
from .host_progress import tell_pages as tell_pages
from .host_progress import throw_if_interrupted as throw_if_interrupted
from .host_weights import BaseModelError as BaseModelError
from .host_weights import FrozenLinear as FrozenLinear
from .host_weights import base_hash as base_hash
from .host_weights import check_products as check_products
from .host_weights import check_readable as check_readable
from .host_weights import check_uncompiled as check_uncompiled
from .host_weights import clip_hash as clip_hash
from .host_weights import fingerprint as fingerprint
from .host_weights import is_linear as is_linear
from .host_weights import vae_hash as vae_hash
from .host_weights import without_object_patches as without_object_patches
from .rotation import rotated

Interrupted = memory.InterruptProcessingException
OutOfMemory = memory.OOM_EXCEPTION

LATENT_CHANNELS = 16
PIXELS_PER_LATENT = 8
TILES, TILE_OVERLAP = (1024, 512, 256), 64  # pixels
EDIT_MODEL = "FLUX.1-Kontext-dev (for example flux1-dev-kontext_fp8_scaled.safetensors)"


@dataclass(frozen=True)
class Base:
    """What ComfyUI has loaded: a FLUX.1 ModelPatcher, its CLIP and its VAE."""

    model: Model
    clip: comfy.sd.CLIP
    vae: comfy.sd.VAE

    @property
    def flux(self) -> Flux:
        return self.model.model.diffusion_model


def check_base(base: Base) -> None:
    """Raise BaseModelError unless the three fit FLUX.1-Kontext. Loads nothing."""
    model, flux = base.model.model, base.flux
    check_uncompiled(flux)
    if type(flux) is not Flux or type(model) is not comfy.model_base.Flux:
        kind = f"{type(model).__name__} ({type(flux).__module__})"
        raise BaseModelError(
            f"The model is {kind}, not FLUX.1 as ComfyUI has it. Load {EDIT_MODEL}."
        )
    if not flux.params.guidance_embed:
        raise BaseModelError(
            f"This is FLUX.1-schnell (no guidance embedding). Kontext LoRAs need {EDIT_MODEL}."
        )
    check_readable(flux)
    channels = model.model_config.unet_config["in_channels"]
    if channels != LATENT_CHANNELS:
        raise BaseModelError(
            f"This FLUX.1 takes {channels} input channels: a Fill, Canny or Depth variant. "
            f"Load {EDIT_MODEL}."
        )
    if base.vae.latent_channels != LATENT_CHANNELS:
        raise BaseModelError(
            f"The VAE makes {base.vae.latent_channels} latent channels, FLUX.1 needs "
            f"{LATENT_CHANNELS}. Load ae.safetensors."
        )
    encoder = base.clip.cond_stage_model
    if not isinstance(encoder, comfy.text_encoders.flux.FluxClipModel):
        raise BaseModelError(
            f"The text encoder is {type(encoder).__name__}, FLUX.1 needs clip_l and t5xxl. "
            "Load them together with DualCLIPLoader, type flux."
        )
    width, expected = encoder.t5xxl.transformer.shared.weight.shape[-1], flux.params.context_in_dim
    if width != expected:
        raise BaseModelError(
            f"The T5 text encoder is {width} wide, this model expects {expected}. FLUX.1 goes with "
            "t5xxl_fp16 or t5xxl_fp8, the demo model with its own CLIP only."
        )


def blocks(flux: Flux) -> list[nn.Module]:
    return [*flux.double_blocks, *flux.single_blocks]


def is_full_model(base: Base) -> bool:
    """False for the demo model and other miniatures, which learn in far fewer steps."""
    return base.flux.params.hidden_size >= 1024


# ---- encode and decode ---------------------------------------------------------------------


def encode_image(vae: comfy.sd.VAE, image: Tensor, limit: int = 0) -> Tensor:
    """Raw VAE latent (its mode) [B, 16, H/8, W/8] of `image` [B, H, W, 3] in 0..1.

    With a `limit` in bytes, in tiles where the whole would not fit: see `tile_side`.
    """
    if not limit:
        return vae.encode(image).float().cpu()
    tile = tile_side(vae, image.shape[1:3], limit)
    sides = (tile, tile) if tile else image.shape[1:3]
    work = vae.memory_used_encode((1, 3, *sides), vae.vae_dtype)
    # even for tiles ComfyUI would make room for the whole picture, and stream the VAE
    made = swapped(vae, "memory_used_encode", lambda shape, dtype: work)
    with within(limit, vae.patcher, work), made:
        encoded = vae.encode_tiled(image, tile, tile, TILE_OVERLAP) if tile else vae.encode(image)
    return encoded.float().cpu()


def tile_side(vae: comfy.sd.VAE, size: Sequence[int], limit: int) -> int:
    """Side in pixels of the tiles in which a picture [height, width] is encoded; 0 is as a whole.

    By ComfyUI's own estimate of what that takes, not by what is free at the moment: the same limit
    always gives the same latents, and tiles give others than the whole.
    """
    if not limit or memory.is_device_cpu(vae.device):
        return 0
    fits = [
        vae.memory_used_encode((1, 3, *sides), vae.vae_dtype) + vae.model_size() <= limit
        for sides in [size, *((tile, tile) for tile in TILES)]
    ]
    if fits[0] or size[0] * size[1] <= TILES[-1] ** 2:
        return 0
    return next((tile for tile, fit in zip(TILES, fits[1:], strict=True) if fit), TILES[-1])


def decode_latent(vae: comfy.sd.VAE, latent: Tensor) -> Tensor:
    """Image [B, H, W, 3] in 0..1 of a raw latent."""
    return vae.decode(latent).clamp(0, 1).float().cpu()


def encode_text(clip: comfy.sd.CLIP, text: str, limit: int = 0) -> Text:
    """The caption as ComfyUI's CLIPTextEncode encodes it, padding included.

    With a `limit` in bytes, weights that exceed it are streamed.
    """
    with within(limit, clip.patcher):
        cond, pooled = clip.encode_from_tokens(clip.tokenize(text), return_pooled=True)
    return Text(cond.float().cpu(), pooled.float().cpu())


def normalised(model: Model, latent: Tensor) -> Tensor:
    """A raw VAE latent in the range the transformer works in."""
    return model.model.process_latent_in(latent)


# ---- sampling ------------------------------------------------------------------------------


def conditioning(text: Text, references: Sequence[Tensor], guidance: float) -> list[Any]:
    """The CONDITIONING that ReferenceLatent and FluxGuidance would make (raw latents)."""
    extras = {"pooled_output": text.pooled, "guidance": guidance}
    if references:
        extras["reference_latents"] = list(references)
    return [[text.cond, extras]]


def sample(
    model: Model,
    text: Text,
    references: Sequence[Tensor],
    width: int,
    height: int,
    seed: int,
    steps: int = 20,
    guidance: float = 2.5,
) -> Tensor:
    """Raw latent that KSampler gives for the same inputs (cfg 1, euler, simple).

    `references` are raw latents; `width` and `height` are in pixels.
    """
    with torch.inference_mode():
        size = (1, LATENT_CHANNELS, height // PIXELS_PER_LATENT, width // PIXELS_PER_LATENT)
        empty = torch.zeros(size, device=memory.intermediate_device())
        noise = comfy.sample.prepare_noise(empty, seed)
        sampling = model.get_model_object("model_sampling")
        sigmas = comfy.samplers.calculate_sigmas(sampling, "simple", steps)
        guider = comfy.samplers.CFGGuider(model)
        guider.inner_set_conds({"positive": conditioning(text, references, guidance)})
        euler = comfy.samplers.sampler_object("euler")
        return guider.sample(noise, empty, euler, sigmas, disable_pbar=True, seed=seed).cpu()


# ---- LoRA files ----------------------------------------------------------------------------


def load_lora_file(path: Path) -> dict[str, Tensor]:
    """The tensors of a LoRA file, read as ComfyUI's loaders read it.

    Copies: Windows cannot replace or delete a file that tensors are still mapped to.
    """
    tensors = comfy.utils.load_torch_file(str(path), safe_load=True)
    return {name: tensor.clone() for name, tensor in tensors.items()}


def with_lora(model: Model, tensors: dict[str, Tensor], strength: float) -> Model:
    """The model as LoraLoaderModelOnly would return it."""
    return comfy.sd.load_lora_for_models(model, None, tensors, strength, 0)[0]


def unmapped_keys(model: Model, tensors: dict[str, Tensor]) -> list[str]:
    """Keys of a LoRA that ComfyUI's loader would ignore on this model."""
    names = comfy.lora.model_lora_keys_unet(model.model, {})
    tensors = comfy.lora_convert.convert_lora(dict(tensors))
    patches = comfy.lora.load_lora(tensors, names, log_missing=False)
    used = {key for adapter in patches.values() for key in adapter.loaded_keys}
    alphas = {f"{name}.alpha" for name in names}
    return sorted(key for key in tensors if key not in used and key not in alphas)


# ---- training on the loaded weights --------------------------------------------------------


def training_dtype(model: Model, name: str) -> torch.dtype:
    """Compute dtype for `bf16`, `fp16`, `fp32`, or for `auto` the one ComfyUI computes in."""
    named = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
    return named[name] if name in named else model.model.get_dtype_inference()


def for_training(model: Model) -> Model:
    """A clone that shares the weights and keeps their LoRA patches, but not the wrappers, hooks
    and replaced objects of other nodes: those apply to sampling only."""
    bare = model.clone()
    bare.object_patches, bare.weight_wrapper_patches, bare.injections = {}, {}, {}
    bare.wrappers = {kind: {} for kind in bare.wrappers}
    bare.callbacks = {kind: {} for kind in bare.callbacks}
    bare.model_options = {**bare.model_options, "transformer_options": {}}
    return bare


def load_alone(model: Model, beside: int, resident: int | None = None, buffers: int = 0) -> None:
    """Load this model and unload all others, leaving `beside` bytes of its device free.

    Of its weights, ComfyUI streams what exceeds `resident` bytes, through `buffers` bytes.
    """
    unload_others(model)
    if resident is not None and resident < model.model_size():
        # it loads whatever leaves so much free, its buffers and its reserve included
        rest = free_bytes(model) - resident - buffers - memory.extra_reserved_memory()
        beside = max(beside, int(rest))
        if model.is_dynamic():  # these are loaded as they are used, up to a watermark
            model._vbar_get(create=True).set_watermark_limit(resident)
    memory.load_models_gpu([model], beside, minimum_memory_required=beside)
    unload_others(model)
    # buffers for streamed weights, made by an earlier node, are inference tensors
    memory.reset_cast_buffers()


@contextmanager
def within(limit: int, model: Model, work: float = 0) -> Iterator[None]:
    """Inside, `model` and the `work` bytes of what is done with it stay below `limit` bytes of its
    device, all other models unloaded; 0 is no limit.

    ComfyUI keeps a reserve free, and streams weights that would eat it up: here it is all the rest
    of the device.
    """
    if not limit or memory.is_device_cpu(model.load_device):
        yield
        return
    beyond = max(0, room_for(model) - limit)
    if model.is_dynamic():  # see `load_alone`; what an earlier node has loaded stays without this
        least = memory.minimum_inference_memory() - memory.extra_reserved_memory()
        resident = max(0, int(limit - max(work, least)))
        model.partially_unload(model.offload_device, max(0, model.loaded_size() - resident))
        model._vbar_get(create=True).set_watermark_limit(resident)
    with swapped(memory, "EXTRA_RESERVED_VRAM", memory.extra_reserved_memory() + beyond):
        yield


@contextmanager
def differentiable() -> Iterator[None]:
    """Operations that have a backward, and no shortcuts that only sampling can afford.

    ComfyUI's own switch swaps its fused rotary kernels for a function that autograd would keep
    much of. Some packs put an attention without a backward into Flux's module itself; `--fast`
    adds float16 products up in float16.
    """
    with (
        swapped(memory, "in_training", True),
        swapped(flux_math, "_apply_rope", rotated),
        swapped(flux_math, "optimized_attention", attention_pytorch),
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
        swapped(flux_math, "optimized_attention", optimized_attention),
        torch.inference_mode(),
    ):
        yield


@contextmanager
def computing_with(threads: int) -> Iterator[None]:
    """Inside, torch adds up on the CPU in the order that it has with this many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def swapped(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Another value for a setting that is global to the process, inside the block."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def plain_attention(_selected: Callable, *args: Any, **options: Any) -> Tensor:
    """Torch's attention, whatever backend the user selected: most others have no backward."""
    return attention_pytorch(*args, **options)


def predict_velocity(
    flux: Flux,
    noised: Tensor,
    sigma: Tensor,
    text: Text,
    references: Sequence[Tensor],
    guidance: float,
) -> Tensor:
    """The transformer's output, `noise - latent`, as apply_model calls it.

    `noised` [B, 16, h, w] and `references` are normalised latents in the compute dtype,
    `sigma` [B] float32, `text` of batch size B.
    """
    batch, dtype, device = noised.shape[0], noised.dtype, noised.device
    return flux(
        noised,
        sigma,
        context=text.cond.to(device, dtype),
        y=text.pooled.to(device, dtype),
        guidance=torch.full((batch,), guidance, device=device, dtype=dtype),
        ref_latents=list(references) or None,
        transformer_options={"optimized_attention_override": plain_attention},
    )


def unload_others(model: Model) -> None:
    """Push all other models off this one's device."""
    ours = [loaded for loaded in memory.current_loaded_models if loaded.model.is_clone(model)]
    memory.free_memory(1e30, model.load_device, keep_loaded=ours)
    memory.soft_empty_cache()


def free_bytes(model: Model) -> int:
    """Bytes of its device that are free or hold this model's weights."""
    free, on_cpu = int(memory.get_free_memory(model.load_device)), model.load_device.type == "cpu"
    return free + (model.model_size() if on_cpu else model.loaded_size())


def room_for(model: Model) -> int:
    """Bytes of its device for this model and its training, all other models unloaded."""
    unload_others(model)
    return free_bytes(model) - int(memory.extra_reserved_memory())


def weight_bytes(model: Model, dtype: torch.dtype) -> tuple[int, int, int, int, int]:
    """Bytes of its weights, and of those that ComfyUI can stream; of the largest layer, and of its
    cast to `dtype` (0 if it is stored like that); and the number of parameters."""
    streams = memory.VRAMState.LOW_VRAM, memory.VRAMState.NORMAL_VRAM, memory.VRAMState.NO_VRAM
    movable = model.load_device.type != "cpu" and memory.vram_state in streams
    linears = [part for part in model.model.diffusion_model.modules() if is_linear(part)]
    sizes = [math.prod(FrozenLinear(linear).shape) for linear in linears]
    largest = max(map(memory.module_size, linears))
    dense, whole = max(sizes) * dtype.itemsize, model.model_size()
    cast = 0 if abs(largest - dense) < dense / 10 else dense
    return whole, whole if movable else 0, largest, cast, sum(sizes)


def card_bytes() -> int:
    """Memory of the graphics card that ComfyUI computes on; 0 without one."""
    device = memory.get_torch_device()
    return 0 if device.type == "cpu" else int(memory.get_total_memory(device))


def peak_bytes(device: torch.device) -> int:
    """Most memory that tensors on this device have taken since `forget_peak`; 0 if not counted."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
