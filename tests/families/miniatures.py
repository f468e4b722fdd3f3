"""Models of random weights in the layout of the real ones, a few million weights each.

ComfyUI reads some sizes from its class defaults and not from the file: there the shapes of the file
are put in their place. All else is its own loading.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import comfy.ldm.flux.model
import comfy.ldm.qwen_image.model
import comfy.ldm.wan.vae
import comfy.model_detection
import comfy.ops
import comfy.sd
import comfy.taesd.taesd
import comfy.text_encoders.llama as llama
import comfy.text_encoders.qwen_vl as qwen_vl
import torch
from kontext.trainer import host
from safetensors.torch import save_file

PLAIN = dict(dtype=torch.float32, device="cpu", operations=comfy.ops.disable_weight_init)
SMALL_TEXT = dict(
    hidden_size=32, intermediate_size=48, num_attention_heads=2, num_key_value_heads=1
)
VISION = dict(hidden_size=64, intermediate_size=64, num_heads=4, num_layers=2)
Weights = dict[str, torch.Tensor]


def random_weights(module: torch.nn.Module, seed: int) -> Weights:
    """Matrices of 1/sqrt(inputs), norms near one, biases small."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, tensor in module.state_dict().items():
        drawn = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim > 1:
            weights[name] = drawn * tensor[0].numel() ** -0.5
        else:
            weights[name] = 1 + 0.1 * drawn if "norm" in name else 0.1 * drawn
    return weights


def flux2_weights(guidance: bool = False, seed: int = 0) -> Weights:
    shape = dict(
        in_channels=128, out_channels=128, vec_in_dim=None, context_in_dim=96, hidden_size=128,
        mlp_ratio=3.0, num_heads=1, depth=1, depth_single_blocks=2, axes_dim=[32] * 4, theta=2000,
        patch_size=1, qkv_bias=False, guidance_embed=guidance, txt_ids_dims=[3],
        global_modulation=True, mlp_silu_act=True, ops_bias=False,
    )  # fmt: skip
    return random_weights(comfy.ldm.flux.model.Flux(**shape, **PLAIN), seed)


QWEN = dict(num_attention_heads=2, attention_head_dim=128, joint_attention_dim=32)


def qwen_weights(timestep_zero: bool = False, seed: int = 0) -> Weights:
    method = "index_timestep_zero" if timestep_zero else "index"
    module = comfy.ldm.qwen_image.model.QwenImageTransformer2DModel(
        num_layers=2, default_ref_method=method, **QWEN, **PLAIN
    )
    return random_weights(module, seed)


@contextmanager
def sizes_from_the_file() -> Iterator[None]:
    """Inside, the Qwen-Image loader believes the widths in the file."""
    real = comfy.model_detection.detect_unet_config

    def detect(weights: Weights, prefix: str, **more: Any) -> Any:
        config = real(weights, prefix, **more)
        if config and config.get("image_model") == "qwen_image":
            head = weights[f"{prefix}transformer_blocks.0.attn.norm_q.weight"].shape[0]
            config["attention_head_dim"] = head
            config["num_attention_heads"] = weights[f"{prefix}img_in.weight"].shape[0] // head
            config["joint_attention_dim"] = weights[f"{prefix}txt_norm.weight"].shape[0]
        return config

    comfy.model_detection.detect_unet_config = detect
    try:
        yield
    finally:
        comfy.model_detection.detect_unet_config = real


def load_model(weights: Weights, path: Any, **options: Any) -> host.Model:
    """Through a file, as UNETLoader does."""
    if not path.exists():
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path)
    with torch.inference_mode(), sizes_from_the_file():
        options = {"dtype": torch.float32, **options}
        return comfy.sd.load_diffusion_model(str(path), model_options=options)


def load_text_encoder(module: Any, kind: Any, clip_type: Any, path: Any, **config: Any) -> Any:
    """Through a file; ComfyUI knows text encoders by their full widths, so it is told the kind."""
    save_file({name: each.contiguous() for name, each in random_weights(module, 3).items()}, path)
    real, comfy.sd.detect_te_model = comfy.sd.detect_te_model, lambda weights: kind
    options = {f"{name}_model_config": each for name, each in config.items()}
    try:
        with torch.inference_mode():
            return comfy.sd.load_clip([str(path)], clip_type=clip_type, model_options=options)
    finally:
        comfy.sd.detect_te_model = real


def klein_clip(folder: Any) -> Any:
    config = dict(SMALL_TEXT, num_hidden_layers=28)  # layers 9, 18 and 27 are read
    module = llama.Qwen3_4B(config, torch.float32, "cpu", comfy.ops.manual_cast)
    kind = comfy.sd.TEModel.QWEN3_4B
    path = folder / "qwen_3_4b.safetensors"
    return load_text_encoder(module, kind, comfy.sd.CLIPType.FLUX2, path, qwen3_4b=config)


def qwen_clip(folder: Any) -> Any:
    config = dict(SMALL_TEXT, num_hidden_layers=2)
    real = qwen_vl.Qwen2VLVisionTransformer

    class Small(real):
        def __init__(self, hidden_size: int = 0, **rest: Any) -> None:
            super().__init__(**VISION, **rest)

    qwen_vl.Qwen2VLVisionTransformer = Small
    try:
        module = llama.Qwen25_7BVLI(config, torch.float32, "cpu", comfy.ops.manual_cast)
        kind = comfy.sd.TEModel.QWEN25_7B
        path = folder / "qwen_2.5_vl_7b.safetensors"
        clip_type = comfy.sd.CLIPType.QWEN_IMAGE
        return load_text_encoder(module, kind, clip_type, path, qwen25_7b=config)
    finally:
        qwen_vl.Qwen2VLVisionTransformer = real


def flux2_vae() -> Any:
    weights = random_weights(comfy.taesd.taesd.TAESD(latent_channels=128), 1)
    weights["vae_scale"], weights["vae_shift"] = torch.tensor(1.0), torch.tensor(0.0)
    return comfy.sd.VAE(sd=weights, metadata={"tae_latent_channels": 128})  # as VAELoader says


def qwen_vae() -> Any:
    module = comfy.ldm.wan.vae.WanVAE(
        dim=8, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2, attn_scales=[],
        temperal_downsample=[False, True, True], image_channels=3, conv_out_channels=3, dropout=0.0,
    )  # fmt: skip
    return comfy.sd.VAE(sd=random_weights(module, 2))


@dataclass(frozen=True)
class Miniature:
    """One member of a family: its weights and file name, the latents to ask it about, and what
    loads its text encoder and VAE."""

    file: str
    weights: Any
    options: dict[str, Any]
    latent: tuple[int, int, int]
    references: tuple[tuple[int, int, int], ...]
    text_width: int
    clip: Any
    vae: Any
    guidance: float = 1.0
    more: dict[str, Any] = field(default_factory=dict)


MINIATURES = {
    "flux2 klein": Miniature(
        "flux-2-klein-base-4b.safetensors", flux2_weights, {}, (128, 4, 6),
        ((128, 3, 5), (128, 6, 2)), 96, klein_clip, flux2_vae,
    ),
    "flux2 dev": Miniature(
        "flux2_dev.safetensors", flux2_weights, {"guidance": True}, (128, 4, 6),
        ((128, 3, 5), (128, 6, 2)), 96, None, flux2_vae, 4.0,
    ),
    "qwen 2509": Miniature(
        "qwen_image_edit_2509.safetensors", qwen_weights, {}, (16, 8, 12),
        ((16, 8, 4), (16, 4, 12)), 32, qwen_clip, qwen_vae,
    ),
    "qwen 2511": Miniature(
        "qwen_image_edit_2511.safetensors", qwen_weights, {"timestep_zero": True}, (16, 8, 12),
        ((16, 8, 4), (16, 4, 12)), 32, qwen_clip, qwen_vae,
    ),
}  # fmt: skip
