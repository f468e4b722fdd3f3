"""FLUX.1: Kontext on pairs, and dev on single pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ...language import say
from .. import host
from .family import Blocks, Family

DOUBLE = Blocks(
    "double_blocks",
    "transformer_blocks",
    {
        "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
        "img_attn.proj": ("attn.to_out.0",),
        "img_mlp.0": ("ff.net.0.proj",),
        "img_mlp.2": ("ff.net.2",),
        "img_mod.lin": ("norm1.linear",),
        "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
        "txt_attn.proj": ("attn.to_add_out",),
        "txt_mlp.0": ("ff_context.net.0.proj",),
        "txt_mlp.2": ("ff_context.net.2",),
        "txt_mod.lin": ("norm1_context.linear",),
    },
    # 4 copies before norms; q, k, v before and after norm and rotation and joined (6); attention
    # (2); the MLP before and after GELU (8)
    kept=20,
    last=("img_mlp.2", "txt_mlp.2"),
    gates=("img_mod.lin", "txt_mod.lin"),
)
SINGLE = Blocks(
    "single_blocks",
    "single_transformer_blocks",
    {
        "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
        "linear2": ("proj_out",),
        "modulation.lin": ("norm.linear",),
    },
    # 2 copies; the whole of the first linear (7); q and k (2); attention (1); attention joined
    # with the MLP (5)
    kept=17,
    last=("linear2",),
    gates=("modulation.lin",),
    shares={"linear1": (1, 1, 1, 4)},  # q, k, v and an MLP four times as wide
)
EDIT_MODEL = "flux1-dev-kontext_fp8_scaled.safetensors (FLUX.1-Kontext-dev)"


def resolution_shift(tokens: int) -> float:
    """FLUX.1's timestep shift exp(mu) for this many target tokens.

    mu is linear from 0.5 at 256 tokens to 1.15 at 4096 (black-forest-labs/flux, get_schedule).
    """
    slope = (1.15 - 0.5) / (4096 - 256)
    return math.exp(0.5 + slope * (tokens - 256))


class Flux1(Family):
    title = "FLUX.1"
    classes = "comfy.model_base.Flux", "comfy.ldm.flux.model.Flux"
    files = {
        "diffusion_model": "flux1-dev-kontext_fp8_scaled.safetensors",
        "text_encoders": "[clip_l.safetensors, t5xxl_fp8_e4m3fn_scaled.safetensors]",
        "vae": "ae.safetensors",
    }
    clip_type = "flux"
    clip_files = 2
    channels = 16
    pixels = 8
    patch = 2
    kinds = (DOUBLE, SINGLE)
    undoubted = ()  # T5 has no tokens for letters that are not Latin
    # in single blocks the projections around attention are fused with the MLP
    targets = {
        "attention": ("_attn.", "linear1", "linear2"),
        "blocks": ("_attn.", "_mlp.", "linear1", "linear2"),
        "all": ("_attn.", "_mlp.", "linear1", "linear2", "_mod.lin", "modulation.lin"),
    }

    def check_model(self) -> None:
        if not self.network.params.guidance_embed:
            raise host.BaseModelError(
                say(
                    "This is FLUX.1-schnell (no guidance embedding). Kontext LoRAs need {model}.",
                    model=EDIT_MODEL,
                )
            )
        super().check_model()
        channels = self.model.model.model_config.unet_config["in_channels"]
        if channels != self.channels:
            raise host.BaseModelError(
                say(
                    "This FLUX.1 takes {count} input channels: a Fill, Canny or Depth variant. "
                    "Load {model}.",
                    count=channels,
                    model=EDIT_MODEL,
                )
            )

    def check_text_encoder(self, encoder: Any) -> None:
        if "comfy.text_encoders.flux.FluxClipModel" not in host.class_names(encoder):
            raise host.BaseModelError(
                say(
                    "The text encoder is {encoder}, FLUX.1 needs clip_l and t5xxl. Load them "
                    "together with DualCLIPLoader, type flux.",
                    encoder=type(encoder).__name__,
                )
            )
        width = encoder.t5xxl.transformer.shared.weight.shape[-1]
        expected = self.network.params.context_in_dim
        if width != expected:
            raise host.BaseModelError(
                say(
                    "The T5 text encoder is {width} wide, this model expects {expected}. FLUX.1 "
                    "goes with t5xxl_fp16 or t5xxl_fp8, the demo model with its own CLIP only.",
                    width=width,
                    expected=expected,
                )
            )

    @property
    def member(self) -> str:
        name = self.file_name.lower()
        if "kontext" in name:
            return "FLUX.1 Kontext"
        return "FLUX.1 dev" if "dev" in name else self.title

    @property
    def distilled(self) -> bool:
        return any(word in self.file_name.lower() for word in ("turbo", "lightning", "hyper"))

    @property
    def base_file(self) -> str:
        dev = self.member == "FLUX.1 dev"
        return "flux1-dev.safetensors" if dev else self.files["diffusion_model"]

    @property
    def guidance(self) -> float:
        return 3.5 if self.member == "FLUX.1 dev" else 2.5

    @property
    def width(self) -> int:
        return self.network.params.hidden_size

    def shift(self, latent: Sequence[int]) -> float:
        return resolution_shift(self.tokens(latent))

    @classmethod
    def metadata(cls) -> dict[str, str]:
        return {
            "modelspec.architecture": "flux-1-dev/lora",
            "modelspec.implementation": "https://github.com/black-forest-labs/flux",
            "ss_base_model_version": "flux.1_kontext",
            "ss_network_module": "networks.lora_flux",
        }
