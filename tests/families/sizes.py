"""ComfyUI believes files about sizes that it otherwise takes from its classes.

Detection, loading and everything else stay ComfyUI's own. Copied into a test server as a custom
node, this file has miniatures loaded by the stock loaders.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import comfy.model_detection
import comfy.sd
import comfy.text_encoders.qwen_vl as qwen_vl
import torch

Weights = Mapping[str, torch.Tensor]
NODE_CLASS_MAPPINGS: dict[str, type] = {}  # none: what ComfyUI looks for in a custom node

WIDEST = 64  # hidden values of a text encoder that is a miniature
SMALL_TEXT = dict(
    hidden_size=32, intermediate_size=48, num_attention_heads=2, num_key_value_heads=1
)
VISION = dict(hidden_size=64, intermediate_size=64, num_heads=4, num_layers=2)


def layers(weights: Weights, pattern: str) -> int:
    return next(n for n in range(1000) if pattern.format(n) not in weights)


def language_model(weights: Weights) -> tuple[comfy.sd.TEModel, dict[str, Any]] | None:
    """The kind of a small Qwen and the options to load it with; None for anything else."""
    table = weights.get("model.embed_tokens.weight")
    if table is None or table.shape[1] > WIDEST:
        return None
    sizes = dict(
        SMALL_TEXT, num_hidden_layers=layers(weights, "model.layers.{}.input_layernorm.weight")
    )
    if "model.layers.0.self_attn.k_proj.bias" in weights:
        return comfy.sd.TEModel.QWEN25_7B, {"qwen25_7b_model_config": sizes}
    return comfy.sd.TEModel.QWEN3_4B, {"qwen3_4b_model_config": sizes}


def clip_and_t5(clips: list[Weights]) -> dict[str, Any]:
    """The options to load a small CLIP-L and T5 with."""
    sizes: dict[str, Any] = {}
    for weights in clips:
        if "shared.weight" in weights:
            block = "encoder.block.0.layer.{}"
            bias = weights[block.format(0) + ".SelfAttention.relative_attention_bias.weight"]
            wide = weights[block.format(0) + ".SelfAttention.q.weight"].shape[0]
            sizes["t5xxl_model_config"] = dict(
                d_model=weights["shared.weight"].shape[1],
                d_ff=weights[block.format(1) + ".DenseReluDense.wi_0.weight"].shape[0],
                d_kv=wide // bias.shape[1],
                num_heads=bias.shape[1],
                num_layers=layers(weights, "encoder.block.{}.layer.0.layer_norm.weight"),
                vocab_size=weights["shared.weight"].shape[0],
                dense_act_fn="gelu_pytorch_tanh",
                is_gated_act=True,
                model_type="t5",
            )
        elif "text_model.encoder.layers.0.mlp.fc1.weight" in weights:
            wide, hidden = weights["text_model.encoder.layers.0.mlp.fc1.weight"].shape
            sizes["model_config"] = dict(
                hidden_size=hidden,
                intermediate_size=wide,
                num_attention_heads=2,
                num_hidden_layers=layers(
                    weights, "text_model.encoder.layers.{}.layer_norm1.weight"
                ),
                max_position_embeddings=77,
                hidden_act="quick_gelu",
                vocab_size=49408,
                eos_token_id=49407,
                layer_norm_eps=1e-5,
                projection_dim=hidden,
            )
    small = sizes.get("t5xxl_model_config", {}).get("d_model", WIDEST + 1) <= WIDEST
    return sizes if small else {}


class SmallVision(qwen_vl.Qwen2VLVisionTransformer):
    def __init__(self, hidden_size: int = 0, **rest: Any) -> None:
        super().__init__(**VISION, **rest)


@contextmanager
def sizes_from_the_files() -> Iterator[None]:
    """Inside, ComfyUI's loaders take miniatures."""
    detect_network = comfy.model_detection.detect_unet_config
    detect_encoder, load = comfy.sd.detect_te_model, comfy.sd.load_text_encoder_state_dicts
    make_vae = comfy.sd.VAE.__init__

    def network(weights: Weights, prefix: str, **more: Any) -> Any:
        config = detect_network(weights, prefix, **more)
        if config and config.get("image_model") == "qwen_image":
            head = weights[f"{prefix}transformer_blocks.0.attn.norm_q.weight"].shape[0]
            config["attention_head_dim"] = head
            config["num_attention_heads"] = weights[f"{prefix}img_in.weight"].shape[0] // head
            config["joint_attention_dim"] = weights[f"{prefix}txt_norm.weight"].shape[0]
        return config

    def encoder(weights: Weights) -> Any:
        found = language_model(weights)
        return found[0] if found else detect_encoder(weights)

    def loaded(state_dicts: list[Weights], *, model_options: Any = None, **more: Any) -> Any:
        options, found = dict(model_options or {}), language_model(state_dicts[0])
        if any(name.endswith("model_config") for name in options):  # they were told already
            return load(state_dicts, model_options=options, **more)
        options |= found[1] if found else clip_and_t5(state_dicts)
        seeing = found and found[0] == comfy.sd.TEModel.QWEN25_7B
        vision = SmallVision if seeing else qwen_vl.Qwen2VLVisionTransformer
        with patch.object(qwen_vl, "Qwen2VLVisionTransformer", vision):
            return load(state_dicts, model_options=options, **more)

    def vae(self: Any, sd: Any = None, metadata: Any = None, **more: Any) -> None:
        if metadata and "tae_latent_channels" in metadata:  # a text in a file's header
            metadata = {"tae_latent_channels": int(metadata["tae_latent_channels"])}
        make_vae(self, sd=sd, metadata=metadata, **more)

    with ExitStack() as patches:
        for place, name, ours in (
            (comfy.model_detection, "detect_unet_config", network),
            (comfy.sd, "detect_te_model", encoder),
            (comfy.sd, "load_text_encoder_state_dicts", loaded),
            (comfy.sd.VAE, "__init__", vae),
        ):
            patches.enter_context(patch.object(place, name, ours))
        yield
