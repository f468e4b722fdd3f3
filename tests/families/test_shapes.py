"""The real models' shapes, without their weights: on torch's meta device."""

import re
from types import SimpleNamespace

import comfy.ldm.flux.model
import comfy.ldm.qwen_image.model
import comfy.ops
import pytest
import torch
from kontext.trainer import host
from kontext.trainer.families.flux2 import Flux2
from kontext.trainer.families.qwen_image import QwenImage
from kontext.trainer.setting import ConfigError

META = dict(dtype=torch.bfloat16, device="meta", operations=comfy.ops.disable_weight_init)


def flux2(width, depth, single, text, guidance=False):
    network = comfy.ldm.flux.model.Flux(
        in_channels=128, out_channels=128, vec_in_dim=None, context_in_dim=text, hidden_size=width,
        mlp_ratio=3.0, num_heads=width // 128, depth=depth, depth_single_blocks=single,
        axes_dim=[32] * 4, theta=2000, patch_size=1, qkv_bias=False, guidance_embed=guidance,
        txt_ids_dims=[3], global_modulation=True, mlp_silu_act=True, ops_bias=False, **META,
    )  # fmt: skip
    return Flux2(SimpleNamespace(model=SimpleNamespace(diffusion_model=network)))


def qwen():
    network = comfy.ldm.qwen_image.model.QwenImageTransformer2DModel(num_layers=60, **META)
    return QwenImage(SimpleNamespace(model=SimpleNamespace(diffusion_model=network)))


def linears(family):
    parts = family.network.named_modules()
    return {name: part for name, part in parts if isinstance(part, torch.nn.Linear)}


# Published: billions of weights; by hand: linears in the blocks, and MB of a LoRA in bf16, rank 16
SHAPES = {
    "FLUX.2 Klein base 4B": (lambda: flux2(3072, 5, 20, 7680), 3.88, 80, 46),
    "FLUX.2 Klein base 9B": (lambda: flux2(4096, 8, 24, 12288), 9.08, 112, 83),
    "FLUX.2 dev": (lambda: flux2(6144, 8, 48, 15360, guidance=True), 32.2, 160, 195),
    # 12 in each of 60 blocks, less the four of the last that get no gradient
    "Qwen-Image": (qwen, 20.4, 716, 211),
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_real_model(name):
    make, billions, count, megabytes = SHAPES[name]
    family = make()
    family.__class__ = type(family.__class__.__name__, (family.__class__,), {"file_name": ""})
    every = linears(family)
    chosen = family.targeted(every, "blocks")
    assert family.member == name and family.full_size
    size = sum(weight.numel() for weight in family.network.parameters()) / 1e9
    assert size == pytest.approx(billions, rel=0.01)
    assert len(chosen) == count
    rows = sum(every[n].in_features + every[n].out_features for n in chosen)
    assert 16 * rows * 2 / 1e6 == pytest.approx(megabytes, abs=1)
    assert sum(blocks for blocks, _ in family.block_memory()) == len(family.blocks())
    for linear in chosen:  # each has its names in diffusers
        parts = family.split(linear, torch.empty(every[linear].out_features, 1, device="meta"))
        assert sum(part.shape[0] for part in parts.values()) == every[linear].out_features


def test_the_text_encoder_of_another_size_is_named(encoders):
    from .miniatures import MINIATURES

    clip, _ = encoders(MINIATURES["flux2 klein"])
    family = flux2(4096, 1, 1, 12288)
    family.__class__ = type("Flux2", (Flux2,), {"file_name": ""})
    with pytest.raises(host.BaseModelError, match=re.escape("qwen_3_8b_fp8mixed")):
        family.check_text_encoder(clip.cond_stage_model)


def test_shared_modulation_is_never_trained():
    """It stands outside of the blocks, and no other program has names for it."""
    family = flux2(128, 1, 1, 96)
    every = linears(family)
    assert any("modulation" in name for name in every)
    assert family.targeted(every, "all") == family.targeted(every, "blocks")
    with pytest.raises(ConfigError, match="matches no layer"):
        family.targeted(every, "modulation")
