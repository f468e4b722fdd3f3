"""Models of random weights in the layout of the real ones, a few million weights each.

ComfyUI reads some sizes from its class defaults and not from the file: there the shapes of the file
are put in their place. All else is its own loading.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import comfy.clip_model
import comfy.ldm.flux.model
import comfy.ldm.qwen_image.model
import comfy.ldm.wan.vae
import comfy.ops
import comfy.sd
import comfy.taesd.taesd
import comfy.text_encoders.llama as llama
import comfy.text_encoders.qwen_vl as qwen_vl
import comfy.text_encoders.t5
import torch
from kontext.trainer import host
from kontext.trainer.host import demo
from safetensors.torch import load_file, save_file

from . import sizes
from .sizes import SMALL_TEXT, SmallVision, sizes_from_the_files

PLAIN = dict(dtype=torch.float32, device="cpu", operations=comfy.ops.disable_weight_init)
FLUX2_VAE = {"tae_latent_channels": 128}  # said by the header of the file
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


def flux1_weights(seed: int = 0) -> Weights:
    shape: dict[str, Any] = dict(
        in_channels=16, out_channels=16, vec_in_dim=demo.CLIP_L["projection_dim"],
        context_in_dim=demo.T5["d_model"], hidden_size=128, mlp_ratio=4.0, num_heads=1, depth=1,
        depth_single_blocks=2, axes_dim=[16, 56, 56], theta=10000, patch_size=2, qkv_bias=True,
        guidance_embed=True, txt_ids_dims=[],
    )  # fmt: skip
    return random_weights(comfy.ldm.flux.model.Flux(**shape, **PLAIN), seed)


def flux2_weights(guidance: bool = False, seed: int = 0, **other: Any) -> Weights:
    shape: dict[str, Any] = dict(
        in_channels=128, out_channels=128, vec_in_dim=None, context_in_dim=96, hidden_size=128,
        mlp_ratio=3.0, num_heads=1, depth=1, depth_single_blocks=2, axes_dim=[32] * 4, theta=2000,
        patch_size=1, qkv_bias=False, guidance_embed=guidance, txt_ids_dims=[3],
        global_modulation=True, mlp_silu_act=True, ops_bias=False,
    )  # fmt: skip
    return random_weights(comfy.ldm.flux.model.Flux(**{**shape, **other}, **PLAIN), seed)


QWEN = dict(num_attention_heads=2, attention_head_dim=128, joint_attention_dim=32)


def qwen_weights(timestep_zero: bool = False, seed: int = 0, **other: Any) -> Weights:
    method = "index_timestep_zero" if timestep_zero else "index"
    module = comfy.ldm.qwen_image.model.QwenImageTransformer2DModel(
        **{"num_layers": 2, **QWEN, **other}, default_ref_method=method, **PLAIN
    )
    return random_weights(module, seed)


def load_model(weights: Weights, path: Any, **options: Any) -> host.Model:
    """Through a file, as UNETLoader does."""
    if not path.exists():
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path)
    with torch.inference_mode(), sizes_from_the_files():
        options = {"dtype": torch.float32, **options}
        return comfy.sd.load_diffusion_model(str(path), model_options=options)


def load_text_encoder(weights: Weights, clip_type: str, path: Any) -> Any:
    """Through a file, as CLIPLoader does."""
    save_file({name: each.contiguous() for name, each in weights.items()}, path)
    with torch.inference_mode(), sizes_from_the_files():
        return comfy.sd.load_clip([str(path)], clip_type=comfy.sd.CLIPType[clip_type])


def qwen3_weights() -> Weights:
    config = dict(SMALL_TEXT, num_hidden_layers=28)  # layers 9, 18 and 27 are read
    return random_weights(llama.Qwen3_4B(config, torch.float32, "cpu", comfy.ops.manual_cast), 3)


def qwen25_weights() -> Weights:
    config = dict(SMALL_TEXT, num_hidden_layers=2)
    with patch.object(qwen_vl, "Qwen2VLVisionTransformer", SmallVision):
        module = llama.Qwen25_7BVLI(config, torch.float32, "cpu", comfy.ops.manual_cast)
    return random_weights(module, 3)


def flux1_clip(folder: Any) -> Any:
    return demo.load_text_encoder()


def klein_clip(folder: Any) -> Any:
    return load_text_encoder(qwen3_weights(), "FLUX2", folder / "qwen_3_4b.safetensors")


def qwen_clip(folder: Any) -> Any:
    path = folder / "qwen_2.5_vl_7b.safetensors"
    return load_text_encoder(qwen25_weights(), "QWEN_IMAGE", path)


def flux2_vae_weights() -> Weights:
    weights = random_weights(comfy.taesd.taesd.TAESD(latent_channels=128), 1)
    return weights | {"vae_scale": torch.tensor(1.0), "vae_shift": torch.tensor(0.0)}


def qwen_vae_weights() -> Weights:
    module = comfy.ldm.wan.vae.WanVAE(
        dim=8, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2, attn_scales=[],
        temperal_downsample=[False, True, True], image_channels=3, conv_out_channels=3, dropout=0.0,
    )  # fmt: skip
    return random_weights(module, 2)


def flux1_vae() -> Any:
    weights = random_weights(comfy.taesd.taesd.TAESD(latent_channels=16), 1)
    scale = {"vae_scale": torch.tensor(0.3611), "vae_shift": torch.tensor(0.1159)}
    return comfy.sd.VAE(sd=weights | scale)


def flux2_vae() -> Any:
    return comfy.sd.VAE(sd=flux2_vae_weights(), metadata=dict(FLUX2_VAE))  # as VAELoader does


def qwen_vae() -> Any:
    return comfy.sd.VAE(sd=qwen_vae_weights())


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
    pooled: int = 0  # width of the text's summary, where there is one


MINIATURES = {
    "flux1 kontext": Miniature(
        "flux1-dev-kontext_fp8_scaled.safetensors", flux1_weights, {}, (16, 8, 12),
        ((16, 8, 4), (16, 4, 12)), 64, flux1_clip, flux1_vae, 2.5, 32,
    ),
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


def put_models(models: Path) -> None:
    """Miniatures under the names that the shipped graphs load, as a user would have put them."""
    plain = comfy.ops.disable_weight_init
    files = {
        "diffusion_models/flux-2-klein-base-4b-fp8": flux2_weights(),
        "diffusion_models/qwen_image_edit_2511_fp8mixed": qwen_weights(timestep_zero=True),
        "diffusion_models/flux1-dev": load_file(demo.FOLDER / "demo_kontext.safetensors"),
        "text_encoders/qwen_3_4b": qwen3_weights(),
        "text_encoders/qwen_2.5_vl_7b_fp8_scaled": qwen25_weights(),
        "text_encoders/clip_l": demo.fixed_weights(
            comfy.clip_model.CLIPTextModel(demo.CLIP_L, torch.float32, "cpu", plain)
        ),
        "text_encoders/t5xxl_fp16": demo.fixed_weights(
            comfy.text_encoders.t5.T5(demo.T5, torch.float32, "cpu", plain)
        ),
        "vae/full_encoder_small_decoder": flux2_vae_weights(),
        "vae/qwen_image_vae": qwen_vae_weights(),
        "vae/ae": load_file(demo.FOLDER / "demo_vae.safetensors"),
    }
    header = {key: str(value) for key, value in FLUX2_VAE.items()}
    for name, weights in files.items():
        path = models / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {key: tensor.contiguous() for key, tensor in weights.items()}
        save_file(tensors, path, header if "small_decoder" in name else None)


def put_sizes(custom_nodes: Path) -> None:
    """A custom node by which a server's loaders take miniatures, from its start to its end."""
    code = Path(sizes.__file__).read_text(encoding="utf-8")
    custom_nodes.mkdir(parents=True, exist_ok=True)
    forever = "\nFOREVER = sizes_from_the_files()\nFOREVER.__enter__()\n"
    (custom_nodes / "miniature_sizes.py").write_text(code + forever, encoding="utf-8")
