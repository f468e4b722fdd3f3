"""The demo model: a genuine but very small Kontext, for trying the pack on any machine."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from .names import comfy_module

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher as Model
    from comfy.sd import CLIP as Clip
    from comfy.sd import VAE as Vae

clip_model = comfy_module("comfy.clip_model")
ops = comfy_module("comfy.ops")
sd = comfy_module("comfy.sd")
t5_texts = comfy_module("comfy.text_encoders.t5")
comfy_utils = comfy_module("comfy.utils")

FOLDER = Path(__file__).resolve().parents[2] / "models" / "demo"
CLIP_L = dict(
    hidden_size=32,
    intermediate_size=64,
    num_attention_heads=2,
    num_hidden_layers=2,
    max_position_embeddings=77,
    hidden_act="quick_gelu",
    vocab_size=49408,
    eos_token_id=49407,
    layer_norm_eps=1e-5,
    projection_dim=32,
)
T5 = dict(
    d_ff=128,
    d_kv=16,
    d_model=64,
    num_heads=4,
    num_layers=2,
    vocab_size=32128,
    dense_act_fn="gelu_pytorch_tanh",
    is_gated_act=True,
    model_type="t5",
)
TEXT_TOKENS = 24


def fixed_weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Frozen random weights, the same on every machine: NumPy keeps RandomState's stream fixed.

    Each tensor is drawn from a seed made of its name, so their order does not matter.
    """
    weights = {}
    for name, weight in module.state_dict().items():
        random = np.random.RandomState(zlib.crc32(name.encode()))
        if "norm" in name:
            values = np.full(weight.shape, float(name.endswith("weight")))
        elif name.endswith("bias"):
            values = np.zeros(weight.shape)
        elif "position_embedding" in name:
            values = 0.2 * random.standard_normal(weight.shape)
        elif "embedding" in name or "attention_bias" in name or name == "shared.weight":
            values = random.standard_normal(weight.shape)
        else:
            values = random.standard_normal(weight.shape) / weight.shape[-1] ** 0.5
        if "self_attn.out_proj" in name:
            values *= 3.0  # the pooled text must depend on every word, not on the end token
        elif name.endswith(("SelfAttention.o.weight", "DenseReluDense.wo.weight")):
            values *= 0.4  # a word must stay recognisable whatever surrounds it
        weights[name] = torch.from_numpy(values.astype(np.float32))
    return weights


def load_text_encoder() -> Clip:
    """A FLUX CLIP (CLIP-L and T5) of tiny dimensions, untrained: words become fixed directions."""
    plain = ops.disable_weight_init
    clip_l = clip_model.CLIPTextModel(CLIP_L, torch.float32, "cpu", plain)
    t5 = t5_texts.T5(T5, torch.float32, "cpu", plain)
    clip = sd.load_text_encoder_state_dicts(
        [fixed_weights(clip_l), fixed_weights(t5)],
        clip_type=sd.CLIPType.FLUX,
        # ComfyUI copies "model_config" over "clip_l_model_config" when it sizes the positions
        model_options={"model_config": dict(CLIP_L), "t5xxl_model_config": dict(T5)},
    )
    clip.set_tokenizer_option("t5xxl_min_length", TEXT_TOKENS)
    return clip


def load_vae() -> Vae:
    return sd.VAE(sd=comfy_utils.load_torch_file(str(FOLDER / "demo_vae.safetensors")))


def load_demo_model() -> tuple[Model, Clip, Vae]:
    """MODEL, CLIP and VAE, through the functions behind ComfyUI's own loader nodes."""
    model = sd.load_diffusion_model(str(FOLDER / "demo_kontext.safetensors"))
    return model, load_text_encoder(), load_vae()
