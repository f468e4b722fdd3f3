"""The models that ComfyUI has loaded: encoding, sampling, and applying LoRA files."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..batch import Text
from .device import swapped, within
from .names import NeverRaised, comfy_module, optional

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher as Model
    from comfy.sd import CLIP as Clip
    from comfy.sd import VAE as Vae

lora = comfy_module("comfy.lora")
lora_convert = comfy_module("comfy.lora_convert")
memory = comfy_module("comfy.model_management")
noises = comfy_module("comfy.sample")
samplers = comfy_module("comfy.samplers")
sd = comfy_module("comfy.sd")
flux_texts = comfy_module("comfy.text_encoders.flux")

Interrupted = optional(memory, "InterruptProcessingException", NeverRaised)
OutOfMemory = optional(memory, "OOM_EXCEPTION", NeverRaised)

TILES, TILE_OVERLAP = (1024, 512, 256), 64  # pixels


@dataclass
class Base:
    """The loaded base: a model, its text encoder and its VAE."""

    model: Model
    clip: Clip
    vae: Vae

    def drop_encoders(self, keep_vae: bool) -> None:
        """Free the host memory of the text encoder, and of the VAE unless it is kept.

        Only if nothing else refers to them. ComfyUI forgets them by itself.
        """
        del self.clip
        if not keep_vae:
            del self.vae
        gc.collect()  # modules refer to themselves in circles
        memory.soft_empty_cache()

    @property
    def network(self) -> nn.Module:
        return self.model.model.diffusion_model


def class_names(thing: object) -> list[str]:
    """The full names of an object's class and its base classes, the class itself first."""
    return [f"{each.__module__}.{each.__qualname__}" for each in type(thing).__mro__]


# ---- encode and decode ---------------------------------------------------------------------


def encode_image(vae: Vae, image: Tensor, limit: int = 0) -> Tensor:
    """Raw VAE latent (its mode) [B, C, h, w] of `image` [B, H, W, 3] in 0..1.

    With a `limit` in bytes, encodes in tiles if the whole would not fit: see `tile_side`.
    """
    if vae.latent_dim == 3 and len(image) > 1:  # such a VAE takes a batch for a video
        return torch.cat([encode_image(vae, one, limit) for one in image.split(1)])
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


def tile_side(vae: Vae, size: Sequence[int], limit: int) -> int:
    """Side in pixels of the tiles to encode a picture [height, width] in; 0 encodes it as a whole.

    Decided by ComfyUI's own estimate, not by what is free at the moment: tiles change the latents,
    and the same limit must always give the same ones.
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


def decode_latent(vae: Vae, latent: Tensor) -> Tensor:
    """Image [B, H, W, 3] in 0..1 of a raw latent."""
    pixels = vae.decode(latent)
    return pixels.reshape(-1, *pixels.shape[-3:]).clamp(0, 1).float().cpu()


def encode_text(clip: Clip, text: str, limit: int = 0) -> Text:
    """The caption as ComfyUI's CLIPTextEncode encodes it, padding included.

    With a `limit` in bytes, weights that exceed it are streamed.
    """
    with within(limit, clip.patcher):
        cond, pooled = clip.encode_from_tokens(clip.tokenize(text), return_pooled=True)
    return Text(cond.float().cpu(), None if pooled is None else pooled.float().cpu())


def encode_by_node(node: Any, clip: Clip, limit: int = 0, **inputs: Any) -> Text:
    """A prompt, with further inputs such as pictures, as one of ComfyUI's own nodes encodes it."""
    with within(limit, clip.patcher):
        ((cond, _),) = node.execute(clip=clip, **inputs).result[0]
    return Text(cond.float().cpu())


def count_tokens(clip: Clip, text: str) -> int:
    """The number of tokens of a text by the model's own tokenizer, with an end token.

    Padding is not counted, nor is a language model's prompt template. Of two encoders, the larger
    number counts.
    """

    def tokens(words: str) -> int:
        lengths = []
        for row, *_ in clip.tokenize(words).values():
            ids = [token for token, *_ in row]
            padding = next((n for n, token in enumerate(ids[::-1]) if token != ids[-1]), len(ids))
            lengths.append(len(ids) - (padding if padding > 1 else 0))
        return max(lengths)

    return tokens(text) - tokens("") + 1


def text_width(encoder: Any) -> int:
    """Hidden size of a language model that encodes text."""
    return getattr(encoder, encoder.clip).transformer.get_input_embeddings().weight.shape[-1]


def flux_tokenizers() -> tuple[Any, Any]:
    """FLUX.1's own tokenizers, T5's and CLIP-L's."""
    both = flux_texts.FluxTokenizer()
    return both.t5xxl.tokenizer, both.clip_l.tokenizer


def normalised(model: Model, latent: Tensor) -> Tensor:
    """A raw VAE latent in the range the transformer works in."""
    return model.model.process_latent_in(latent)


# ---- sampling ------------------------------------------------------------------------------


def conditioning(
    text: Text, references: Sequence[Tensor], guidance: float, method: str = ""
) -> list[Any]:
    """The CONDITIONING that ReferenceLatent, FluxGuidance and, with a `method` of placing
    references, Edit Model Reference Method would make (raw latents)."""
    extras: dict[str, Any] = {"pooled_output": text.pooled, "guidance": guidance}
    if references:
        extras["reference_latents"] = list(references)
        extras |= {"reference_latents_method": method} if method else {}
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
    sigmas: Tensor | None = None,
    negative: Text | None = None,
    cfg: float = 1.0,
    method: str = "",
) -> Tensor:
    """The raw latent that KSampler gives for the same inputs: euler, by default `simple`.

    `references` are raw latents, for the negative prompt too, placed by `method` (see
    `conditioning`); `width` and `height` are in pixels.
    """
    with torch.inference_mode():
        latent = model.model.latent_format
        sides = (side // latent.spacial_downscale_ratio for side in (height, width))
        frame = (1,) * (latent.latent_dimensions - 2)
        size = (1, latent.latent_channels, *frame, *sides)
        empty = torch.zeros(size, device=memory.intermediate_device())
        noise = noises.prepare_noise(empty, seed)
        sigmas = simple_sigmas(model, steps) if sigmas is None else sigmas
        guider = samplers.CFGGuider(model)
        guider.set_cfg(cfg)
        both = {"positive": text} | ({"negative": negative} if negative else {})
        guider.inner_set_conds(
            {name: conditioning(each, references, guidance, method) for name, each in both.items()}
        )
        euler = samplers.sampler_object("euler")
        return guider.sample(noise, empty, euler, sigmas, disable_pbar=True, seed=seed).cpu()


def simple_sigmas(model: Model, steps: int) -> Tensor:
    """Noise levels [steps + 1] of the scheduler `simple`."""
    sampling = model.get_model_object("model_sampling")
    return samplers.calculate_sigmas(sampling, "simple", steps)


def scheduled_sigmas(node: Any, steps: int, width: int, height: int) -> Tensor:
    """Noise levels [steps + 1] of a scheduler that is a node of its own."""
    return node.execute(steps, width, height).result[0]


def with_shift(model: Model, shift: float) -> Model:
    """The model as the node ModelSamplingAuraFlow returns it."""
    advanced = comfy_module("comfy_extras.nodes_model_advanced")
    return advanced.ModelSamplingAuraFlow().patch_aura(model, shift)[0]


def with_guidance_norm(model: Model) -> Model:
    """The model as the node CFGNorm returns it, at strength 1."""
    nodes_cfg = comfy_module("comfy_extras.nodes_cfg")
    return nodes_cfg.CFGNorm.execute(model, 1.0).result[0]


# ---- LoRA files ----------------------------------------------------------------------------


def with_lora(model: Model, tensors: dict[str, Tensor], strength: float) -> Model:
    """The model as LoraLoaderModelOnly would return it."""
    return sd.load_lora_for_models(model, None, tensors, strength, 0)[0]


def unmapped_keys(model: Model, tensors: dict[str, Tensor]) -> list[str]:
    """Keys of a LoRA that ComfyUI's loader would ignore on this model."""
    names = lora.model_lora_keys_unet(model.model, {})
    tensors = lora_convert.convert_lora(dict(tensors))
    patches = lora.load_lora(tensors, names, log_missing=False)
    used = {key for adapter in patches.values() for key in adapter.loaded_keys}
    alphas = {f"{name}.alpha" for name in names}
    return sorted(key for key in tensors if key not in used and key not in alphas)
