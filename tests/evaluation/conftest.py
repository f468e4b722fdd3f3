"""A genuine but tiny and untrained FLUX, and LoRA files that change what it does."""

from collections.abc import Callable
from pathlib import Path

import comfy.ldm.flux.model
import comfy.ops
import comfy.sd
import comfy.utils
import pytest
import torch
from kontext.trainer.host import Base
from kontext.trainer.host.demo import FOLDER, load_text_encoder
from safetensors.torch import save_file

FLUX = dict(
    in_channels=16,
    out_channels=16,
    vec_in_dim=32,
    context_in_dim=64,
    hidden_size=128,
    mlp_ratio=4.0,
    num_heads=1,
    depth=1,
    depth_single_blocks=1,
    axes_dim=[16, 56, 56],
    theta=10000,
    patch_size=2,
    qkv_bias=True,
    guidance_embed=True,
    txt_ids_dims=[],
)


def random_flux() -> dict[str, torch.Tensor]:
    plain = comfy.ops.disable_weight_init
    flux = comfy.ldm.flux.model.Flux(dtype=torch.float32, device="cpu", operations=plain, **FLUX)
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, weight in flux.state_dict().items():
        values = torch.randn(weight.shape, generator=generator)
        if "norm" in name:
            weights[name] = torch.ones_like(weight)
        else:
            weights[name] = values * (weight[0].numel() ** -0.5 if weight.ndim > 1 else 0.02)
    return weights


@pytest.fixture(scope="session")
def base() -> Base:
    model = comfy.sd.load_diffusion_model_state_dict(random_flux())
    vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(FOLDER / "demo_vae.safetensors")))
    return Base(model, load_text_encoder(), vae)


@pytest.fixture
def make_lora(base: Base, tmp_path: Path) -> Callable[..., Path]:
    """Writes a LoRA of random weights on the attention projections."""

    def write(name: str, seed: int, size: float = 0.1, rank: int = 4) -> Path:
        generator = torch.Generator().manual_seed(seed)
        tensors = {}
        for layer, module in base.network.named_modules():
            if layer.endswith(("img_attn.qkv", "img_attn.proj", "linear1")):
                key = "lora_unet_" + layer.replace(".", "_")
                wide, high = module.in_features, module.out_features
                down = torch.randn(rank, wide, generator=generator) * wide**-0.5
                up = torch.randn(high, rank, generator=generator) * size
                tensors |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up}
                tensors[f"{key}.alpha"] = torch.tensor(float(rank))
        path = tmp_path / f"{name}.safetensors"
        save_file(tensors, path)
        return path

    return write
