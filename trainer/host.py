"""The only module that touches ComfyUI's internals: its weights, encoders, sampler and progress."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.conds
import comfy.lora
import comfy.lora_convert
import comfy.model_base
import comfy.model_management as memory
import comfy.ops
import comfy.sample
import comfy.samplers
import comfy.sd
import comfy.text_encoders.flux
import comfy.utils
import torch
from comfy.ldm.flux.model import Flux
from comfy.ldm.modules.attention import attention_pytorch
from comfy.model_patcher import ModelPatcher as Model
from PIL import Image
from torch import Tensor, nn

from .batches import Text

Interrupted = memory.InterruptProcessingException
OutOfMemory = memory.OOM_EXCEPTION
throw_if_interrupted = memory.throw_exception_if_processing_interrupted

LATENT_CHANNELS = 16
PIXELS_PER_LATENT = 8
EDIT_MODEL = "FLUX.1-Kontext-dev (for example flux1-dev-kontext_fp8_scaled.safetensors)"


class BaseModelError(ValueError):
    """The loaded model, text encoder or VAE cannot be used for FLUX.1-Kontext training."""


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
    if type(flux) is not Flux or type(model) is not comfy.model_base.Flux:
        kind = f"{type(model).__name__} ({type(flux).__module__})"
        raise BaseModelError(
            f"The model is {kind}, not FLUX.1 as ComfyUI has it. Load {EDIT_MODEL}."
        )
    if not flux.params.guidance_embed:
        raise BaseModelError(
            f"This is FLUX.1-schnell (no guidance embedding). Kontext LoRAs need {EDIT_MODEL}."
        )
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


# ---- identity ------------------------------------------------------------------------------


def without_object_patches(model: Model) -> None:
    """Undo what other nodes have put in the place of modules (compiled blocks, for one).

    ComfyUI puts it back when the model is sampled with again.
    """
    model.unpatch_model(unpatch_weights=False)


def base_hash(model: Model) -> str:
    """Hash of the transformer's own weights, whatever LoRA is merged into them at the moment,
    and of the LoRAs the user has put on it."""
    own = {key: saved.weight for key, saved in model.backup.items()}
    patches = {f"patch {key}": patch for key, patch in model.patches.items()}
    return fingerprint({**stored_tensors(model.model), **own, **dict(leaves(patches, ""))})


def leaves(tree: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """All tensors and numbers in nested containers and weight adapters, with their places."""
    if isinstance(tree, Tensor):
        yield name, tree
    elif isinstance(tree, (int, float)):
        yield name, torch.tensor(tree)
    elif isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, f"{name} {key}")
    elif isinstance(tree, (list, tuple)):
        for index, value in enumerate(tree):
            yield from leaves(value, f"{name} {index}")
    elif hasattr(tree, "weights"):
        yield from leaves(tree.weights, name)


def stored_tensors(module: nn.Module) -> dict[str, Tensor]:
    """A model's state as it is stored. ComfyUI-GGUF answers with placeholders: look behind them."""
    parameters = dict(module.named_parameters())
    return {
        name: parameters[name].as_subclass(Tensor)
        if tensor.is_meta and name in parameters
        else tensor
        for name, tensor in module.state_dict().items()
    }


def vae_hash(vae: comfy.sd.VAE) -> str:
    return fingerprint(stored_tensors(vae.first_stage_model))


def clip_hash(clip: comfy.sd.CLIP) -> str:
    """Hash of a text encoder with all that changes what it says: options, layer, LoRAs."""
    patches = clip.patcher.patches_uuid if clip.patcher.patches else None
    options = f"{clip.tokenizer_options} {clip.layer_idx} {patches}"
    return fingerprint(stored_tensors(clip.cond_stage_model), options)


def fingerprint(tensors: Mapping[str, Tensor], *more: str) -> str:
    """Hash of every tensor's name, shape and 64 of its values: enough to tell models apart."""
    digest = hashlib.sha256(" ".join(more).encode("utf-8"))
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        count = min(64, tensor.numel())
        if count and not tensor.is_meta:
            # whole numbers: float32 cannot tell the last indices of a large weight apart
            picks = torch.arange(count) * (tensor.numel() - 1) // max(1, count - 1)
            values = tensor.detach().reshape(-1)[picks.to(tensor.device)]
            digest.update(values.cpu().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


# ---- encode and decode ---------------------------------------------------------------------


def encode_image(vae: comfy.sd.VAE, image: Tensor) -> Tensor:
    """Raw VAE latent (its mode) [B, 16, H/8, W/8] of `image` [B, H, W, 3] in 0..1."""
    return vae.encode(image).float().cpu()


def decode_latent(vae: comfy.sd.VAE, latent: Tensor) -> Tensor:
    """Image [B, H, W, 3] in 0..1 of a raw latent."""
    return vae.decode(latent).clamp(0, 1).float().cpu()


def encode_text(clip: comfy.sd.CLIP, text: str) -> Text:
    """The caption as ComfyUI's CLIPTextEncode encodes it, padding included."""
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


# ---- frozen weights ------------------------------------------------------------------------


def is_linear(module: nn.Module) -> bool:
    """True for every kind of linear layer: ComfyUI's quantised ones are no nn.Linear."""
    return all(hasattr(module, name) for name in ("in_features", "out_features", "weight"))


@contextmanager
def cast_weight(module: Any, like: Tensor) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Dense weight and bias of a ComfyUI layer in the dtype and on the device of `like`.

    Streams, pages in or dequantises as ComfyUI would; the tensors are valid inside the block only.
    """
    if hasattr(module, "is_ggml_quantized") and module.is_ggml_quantized():
        weight, bias = module.cast_bias_weight(like)  # ComfyUI-GGUF's own
        yield weight.as_subclass(Tensor), bias
        return
    weight, bias, stream = comfy.ops.cast_bias_weight(
        module, dtype=like.dtype, device=like.device, bias_dtype=like.dtype, offloadable=True
    )
    quantised = isinstance(weight, comfy.ops.QuantizedTensor)
    try:
        yield (weight.dequantize() if quantised else weight).to(like.dtype), bias
    finally:
        comfy.ops.uncast_bias_weight(module, weight, bias, stream)


class FrozenLinear:
    """A linear layer of the loaded model: its own forward, and its dense weight on demand."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.comfy_forward = module.forward

    def forward(self, x: Tensor) -> Tensor:
        """The layer as ComfyUI runs it, for any dtype of `x`."""
        if self.must_cast(x):
            with cast_weight(self.module, x) as (weight, bias):
                return nn.functional.linear(x, weight, None if bias is None else bias.to(x))
        return self.comfy_forward(x)

    def must_cast(self, x: Tensor) -> bool:
        """True where ComfyUI's own forward would fail, or overwrite its input, in training."""
        if isinstance(self.module, comfy.ops.fp8_ops.Linear):
            return True  # the fp8 "fast" path clamps its input in place
        stored_plain = type(self.module.weight) is nn.Parameter
        return stored_plain and self.module.weight.dtype != x.dtype

    def backward(self, gradient: Tensor) -> Tensor:
        """Gradient with respect to the input, from the weight as it is stored."""
        with cast_weight(self.module, gradient) as (weight, _):
            before = gradient @ weight
        scale = getattr(self.module, "pre_quant_scale", None)  # AWQ scales the layer's input
        return before if scale is None else before * scale.to(before)


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


def load_alone(model: Model, activation_bytes: int) -> None:
    """Load this model and unload all others, leaving `activation_bytes` of its device free."""
    memory.load_models_gpu([model], activation_bytes, minimum_memory_required=activation_bytes)
    ours = [loaded for loaded in memory.current_loaded_models if loaded.model is model]
    memory.free_memory(1e30, model.load_device, keep_loaded=ours)
    memory.soft_empty_cache()
    # buffers for streamed weights, made by an earlier node, are inference tensors
    memory.reset_cast_buffers()


@contextmanager
def differentiable() -> Iterator[None]:
    """ComfyUI's switch for operations with a backward (it swaps its fused rotary kernels)."""
    before, memory.in_training = memory.in_training, True
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        memory.in_training = before


@contextmanager
def sampling_allowed() -> Iterator[None]:
    """Inside `differentiable`: ComfyUI as it is for inference, to sample with a live LoRA."""
    before, memory.in_training = memory.in_training, False
    try:
        with torch.inference_mode():
            yield
    finally:
        memory.in_training = before


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


def room_beside(model: Model) -> int:
    """Bytes that its device could give to activations with this model alone on it."""
    device = model.load_device
    ours = [loaded for loaded in memory.current_loaded_models if loaded.model.is_clone(model)]
    memory.free_memory(1e30, device, keep_loaded=ours)
    return int(memory.get_free_memory(device)) - (model.model_size() - model.loaded_size())


def peak_bytes(device: torch.device) -> int:
    """Most memory that tensors on this device have taken since `forget_peak`; 0 if not counted."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


# ---- progress ------------------------------------------------------------------------------


class Progress:
    """ComfyUI's progress bar, node text and preview for one piece of work."""

    def __init__(self, total: int, node_id: str | None = None) -> None:
        self.bar = comfy.utils.ProgressBar(total, node_id=node_id)
        self.node_id = node_id
        self.last_text = 0.0

    def update(self, step: int, text: str = "", preview: Image.Image | None = None) -> None:
        """Show `step` of the total; raises Interrupted once the user presses Cancel."""
        throw_if_interrupted()
        shown = ("JPEG", preview, 1024) if preview is not None else None
        self.bar.update_absolute(step, preview=shown)
        if text and time.monotonic() - self.last_text > 0.25:
            self.say(text)

    def say(self, text: str) -> None:
        """Put a line of text on the node."""
        self.last_text = time.monotonic()
        if self.node_id is None:
            logging.info(text)
            return
        from server import PromptServer  # exists only once the server has been started

        PromptServer.instance.send_progress_text(text, self.node_id)
