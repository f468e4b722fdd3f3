"""Florence-2 rewritten as its first files on the hub are laid out."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

_OLD_BLOCKS = {
    "conv1": "conv1.fn.dw",
    "norm1": "{attention}.norm",
    "window_attn": "window_attn.fn",
    "channel_attn": "channel_attn.fn",
    "conv2": "conv2.fn.dw",
    "norm2": "ffn.norm",
    "ffn": "ffn.fn.net",
}
_OLD_PROJECTOR = {
    "image_projection.weight": "image_projection",
    "image_proj_norm": "image_proj_norm",
    "image_position_embed": "image_pos_embed",
    "visual_temporal_embed": "visual_temporal_embed",
}


def old_florence(native: Path, folder: Path) -> Path:
    """A native Florence-2 folder rewritten as microsoft/Florence-2-* is laid out."""
    folder.mkdir(parents=True)
    config = json.loads((native / "config.json").read_text(encoding="utf-8"))
    text, vision = config["text_config"], config["vision_config"]
    rows = config["image_token_id"]
    old_vision = {
        "model_type": "davit",
        "dim_embed": vision["embed_dim"],
        "visual_temporal_embedding": {
            "type": "COSINE",
            "max_temporal_embeddings": vision["max_temporal_embeddings"],
        },
        "image_pos_embed": {
            "type": "learned_abs_2d",
            "max_pos_embeddings": vision["max_position_embeddings"],
        },
        "image_feature_source": ["spatial_avg_pool", "temporal_avg_pool"],
    }
    for name in ("num_heads", "num_groups", "depths", "window_size", "projection_dim"):
        old_vision[name] = vision[name]
    for name in ("patch_size", "patch_stride", "patch_padding", "patch_prenorm"):
        old_vision[name] = vision[name]
    old = {
        "model_type": "florence2",
        "architectures": ["Florence2ForConditionalGeneration"],
        "auto_map": {"AutoConfig": "configuration_florence2.Florence2Config"},
        "vocab_size": rows,
        "projection_dim": vision["projection_dim"],
        "text_config": text | {"model_type": "florence2_language", "vocab_size": rows},
        "vision_config": old_vision,
    }
    (folder / "config.json").write_text(json.dumps(old), encoding="utf-8")
    weights = {}
    for name, tensor in load_file(native / "model.safetensors").items():
        if name.endswith(("shared.weight", "lm_head.weight", "embed_tokens.weight")):
            tensor = tensor[:rows]
        if name.endswith("image_projection.weight"):
            tensor = tensor.T
        weights[old_name(name)] = tensor.contiguous()
    bias = torch.zeros(1, rows)
    save_file(weights | {"language_model.final_logits_bias": bias}, folder / "model.safetensors")
    _old_processor(native, folder)
    return folder


def old_name(native: str) -> str:
    """The name of a weight in the old layout, piece by piece."""
    parts = native.removeprefix("model.").split(".")
    if parts[0] == "language_model":
        return "language_model.model." + ".".join(parts[1:])
    if parts[0] == "lm_head":
        return "language_model." + ".".join(parts)
    if parts[0] == "multi_modal_projector":
        rest = ".".join(parts[1:])
        new = next(key for key in _OLD_PROJECTOR if rest.startswith(key))
        return _OLD_PROJECTOR[new] + rest.removeprefix(new)
    if parts[1] == "convs":
        return ".".join(parts).replace(".conv.", ".proj.")
    # vision_tower.blocks.0.0.spatial_block.window_attn.qkv.weight
    block, inner, rest = parts[:5], parts[5], parts[6:]
    attention = "window_attn" if block[-1] == "spatial_block" else "channel_attn"
    return ".".join([*block, _OLD_BLOCKS[inner].format(attention=attention), *rest])


def _old_processor(native: Path, folder: Path) -> None:
    """BART's own tokenizer without the added tokens, and a plain CLIP image processor."""
    tokenizer = json.loads((native / "tokenizer.json").read_text(encoding="utf-8"))
    first = tokenizer["added_tokens"][:5]
    (folder / "tokenizer.json").write_text(
        json.dumps(tokenizer | {"added_tokens": first}), encoding="utf-8"
    )
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 1024}', encoding="utf-8")
    pictures = json.loads((native / "processor_config.json").read_text(encoding="utf-8"))
    (folder / "preprocessor_config.json").write_text(
        json.dumps(pictures["image_processor"]), encoding="utf-8"
    )
