"""LoRA files: the names other programs know, and the metadata they read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from .files import save_tensors, write_atomically

FORMATS = ("comfyui", "diffusers", "peft")

# One fused linear of ComfyUI's Flux is one or several linears of diffusers', in this order
DOUBLE = {
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
}
SINGLE = {
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "linear2": ("proj_out",),
    "modulation.lin": ("norm.linear",),
}


def comfyui_tensors(
    tensors: Mapping[str, Tensor], alpha: float, dtype: torch.dtype
) -> dict[str, Tensor]:
    """kohya's names, which ComfyUI, Forge, SwarmUI, diffusers and nunchaku read.

    `tensors` are `<linear>.down` and `<linear>.up`; every layer gets its `.alpha`.
    """
    named: dict[str, Tensor] = {}
    for name, down, up in layers(tensors):
        prefix = f"lora_unet_{name.replace('.', '_')}"
        named[f"{prefix}.lora_down.weight"] = down.to(dtype)
        named[f"{prefix}.lora_up.weight"] = up.to(dtype)
        named[f"{prefix}.alpha"] = torch.tensor(float(alpha))
    return named


def diffusers_tensors(
    tensors: Mapping[str, Tensor], alpha: float, dtype: torch.dtype, prefix: str = "transformer"
) -> dict[str, Tensor]:
    """diffusers' names; alpha / rank is folded into `lora_B`, as these files carry no alpha."""
    named: dict[str, Tensor] = {}
    for name, down, up in layers(tensors):
        scale = alpha / down.shape[0]
        for part, rows in zip(*split(name, up), strict=True):
            named[f"{prefix}.{part}.lora_A.weight"] = down.to(dtype).clone()
            named[f"{prefix}.{part}.lora_B.weight"] = (rows * scale).to(dtype)
    return named


def layers(tensors: Mapping[str, Tensor]) -> Iterable[tuple[str, Tensor, Tensor]]:
    for key, down in tensors.items():
        if key.endswith(".down"):
            name = key.removesuffix(".down")
            yield name, down, tensors[f"{name}.up"]


def split(name: str, up: Tensor) -> tuple[list[str], list[Tensor]]:
    """diffusers' linears of a fused one, and the rows of `up` that belong to each."""
    kind, index, linear = name.split(".", 2)
    if kind == "double_blocks":
        parts = [f"transformer_blocks.{index}.{part}" for part in DOUBLE[linear]]
        return parts, list(up.chunk(len(parts)))
    parts = [f"single_transformer_blocks.{index}.{part}" for part in SINGLE[linear]]
    if linear != "linear1":
        return parts, [up]
    hidden = up.shape[0] // 7  # q, k, v and an MLP four times as wide
    return parts, list(up.split([hidden, hidden, hidden, 4 * hidden]))


def save_lora(
    tensors: Mapping[str, Tensor],
    path: Path,
    alpha: float,
    metadata: Mapping[str, str],
    format: str = "comfyui",
    dtype: torch.dtype = torch.bfloat16,
) -> Path:
    """Write a LoRA in one of FORMATS. `peft` makes the folder `path` without its suffix."""
    if format == "peft":
        return save_peft(tensors, path.with_suffix(""), alpha, dtype)
    named = {"comfyui": comfyui_tensors, "diffusers": diffusers_tensors}[format]
    save_tensors(named(tensors, alpha, dtype), path, metadata)
    return path


def save_peft(
    tensors: Mapping[str, Tensor], folder: Path, alpha: float, dtype: torch.dtype
) -> Path:
    """Write adapter_model.safetensors and adapter_config.json for diffusers' transformer."""
    from peft import LoraConfig

    named = diffusers_tensors(tensors, alpha, dtype, prefix="base_model.model")
    modules = {
        key.split(".", 2)[2].removesuffix(".lora_A.weight") for key in named if "lora_A" in key
    }
    rank = next(iter(tensors.values())).shape[0]
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=sorted(modules))
    content = {**config.to_dict(), "target_modules": sorted(modules)}
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(named, folder / "adapter_model.safetensors", {"format": "pt"})
    text = json.dumps(content, indent=2, default=str)
    write_atomically(folder / "adapter_config.json", text.encode("utf-8"))
    return folder


def model_metadata(
    name: str,
    tensors: Mapping[str, Tensor],
    config: Mapping[str, object],
    base_hash: str,
    dataset_hash: str,
    step: int,
) -> dict[str, str]:
    """modelspec.* (Stability's model specification 1.0.0) and ss_* (kohya) entries."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(tensors[key].float().numpy().tobytes())
    return {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": "flux-1-dev/lora",
        "modelspec.implementation": "https://github.com/black-forest-labs/flux",
        "modelspec.title": name,
        "modelspec.hash_sha256": f"0x{digest.hexdigest()}",
        "ss_base_model_version": "flux.1_kontext",
        "ss_network_module": "networks.lora_flux",
        "ss_network_dim": str(config["rank"]),
        "ss_network_alpha": str(config["alpha"]),
        "ss_learning_rate": str(config["learning_rate"]),
        "ss_steps": str(step),
        "ss_output_name": name,
        "ss_sd_model_hash": base_hash,
        "ss_dataset_hash": dataset_hash,
        "ss_training_config": json.dumps(dict(config)),
    }
