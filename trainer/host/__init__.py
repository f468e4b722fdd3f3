"""The only room of the trainer that imports ComfyUI. Everything else says `host.…`.

Read `comfy` first (the loaded model: encoding, sampling, LoRA files), then `training` (the forward
pass with gradients), `device` (memory), `weights` (formats, hashes) and `progress`. `files` finds
models by name, `folders` has the pack's own folders, `lora_files` opens LoRAs from any trainer,
`costs` times the loading of LoRAs, `rotation` is a backward that ComfyUI lacks, and `demo` loads
the model that ships with the pack.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .comfy import (
    Base,
    Interrupted,
    OutOfMemory,
    class_names,
    conditioning,
    count_tokens,
    decode_latent,
    encode_by_node,
    encode_image,
    encode_text,
    normalised,
    sample,
    scheduled_sigmas,
    simple_sigmas,
    text_width,
    tile_side,
    unmapped_keys,
    with_guidance_norm,
    with_lora,
    with_shift,
)
from .device import (
    card_bytes,
    dense_bytes,
    forget_peak,
    load_alone,
    peak_bytes,
    room_for,
    weight_bytes,
    within,
)
from .lora_files import LowRankPart, load_lora_file, low_rank_parts
from .names import HostError, as_host_error, comfy_module, report_missing, require_names
from .progress import (
    Progress,
    interrupt,
    running_node,
    show_error,
    tell_pages,
    throw_if_interrupted,
    watched,
)
from .training import (
    computing_with,
    differentiable,
    for_training,
    predict_velocity,
    sampling_allowed,
    training_dtype,
)
from .weights import (
    BaseModelError,
    FrozenLinear,
    base_hash,
    check_products,
    check_readable,
    check_uncompiled,
    clip_hash,
    fingerprint,
    is_linear,
    vae_hash,
    weight_format,
    without_object_patches,
)

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher as Model
    from comfy.sd import CLIP as Clip
    from comfy.sd import VAE as Vae

__all__ = [
    "Base",
    "BaseModelError",
    "FrozenLinear",
    "HostError",
    "Interrupted",
    "Model",
    "OutOfMemory",
    "Progress",
    "as_host_error",
    "base_hash",
    "card_bytes",
    "Clip",
    "Vae",
    "check_products",
    "check_readable",
    "check_uncompiled",
    "class_names",
    "comfy_module",
    "clip_hash",
    "computing_with",
    "conditioning",
    "count_tokens",
    "decode_latent",
    "dense_bytes",
    "differentiable",
    "encode_image",
    "encode_text",
    "with_shift",
    "with_guidance_norm",
    "text_width",
    "simple_sigmas",
    "scheduled_sigmas",
    "encode_by_node",
    "fingerprint",
    "for_training",
    "forget_peak",
    "interrupt",
    "is_linear",
    "load_alone",
    "LowRankPart",
    "load_lora_file",
    "low_rank_parts",
    "normalised",
    "peak_bytes",
    "predict_velocity",
    "report_missing",
    "require_names",
    "room_for",
    "running_node",
    "sample",
    "sampling_allowed",
    "show_error",
    "tell_pages",
    "throw_if_interrupted",
    "tile_side",
    "training_dtype",
    "unmapped_keys",
    "vae_hash",
    "weight_format",
    "weight_bytes",
    "with_lora",
    "watched",
    "within",
    "without_object_patches",
]
