"""LoRA files: the names other programs know, and the metadata they read."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from .files import save_tensors, storing, write_atomically

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


def read_lora(named: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], float]:
    """`<linear>.down` and `<linear>.up` of a LoRA in kohya's or ComfyUI's names, and its alpha.

    Raises ValueError for a file that is not a plain FLUX.1 LoRA.
    """
    tensors: dict[str, Tensor] = {}
    alphas = set()
    for key, down in named.items():
        prefix = key.removesuffix(".lora_down.weight")
        if prefix != key:
            name = linear_name(prefix)
            tensors[f"{name}.down"] = down
            tensors[f"{name}.up"] = named[f"{prefix}.lora_up.weight"]
            alphas.add(float(named.get(f"{prefix}.alpha", down.shape[0])))
    if not tensors or len(alphas) != 1:
        raise ValueError("This is not a FLUX.1 LoRA in kohya's or ComfyUI's names.")
    return tensors, alphas.pop()


def linear_name(prefix: str) -> str:
    """ComfyUI's name of the linear that `lora_unet_…` or `diffusion_model.…` stands for."""
    words = prefix.removeprefix("diffusion_model.").removeprefix("lora_unet_").replace(".", "_")
    match = re.fullmatch(r"((?:double|single)_blocks)_(\d+)_(.+)", words)
    linears = {linear.replace(".", "_"): linear for linear in (*DOUBLE, *SINGLE)}
    if not match or match[3] not in linears:
        raise ValueError(f"{prefix} is no linear of FLUX.1's blocks.")
    return f"{match[1]}.{match[2]}.{linears[match[3]]}"


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


def export_lora(
    named: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    path: Path,
    format: str,
    overwrite: bool = False,
) -> Path:
    """Write a LoRA, given in kohya's or ComfyUI's names, in one of FORMATS; returns where it is.

    `peft` makes a folder: `path` without its suffix. Raises FileExistsError rather than replace
    another LoRA, unless `overwrite`.
    """
    tensors, alpha = read_lora(named)
    dtype = next(iter(tensors.values())).dtype
    if format == "comfyui":
        return write_lora(path, comfyui_tensors(tensors, alpha, dtype), metadata, overwrite)
    if format == "diffusers":
        return write_lora(path, diffusers_tensors(tensors, alpha, dtype), metadata, overwrite)
    folder = path.with_suffix("")
    renamed = diffusers_tensors(tensors, alpha, dtype, prefix="base_model.model")
    write_lora(folder / "adapter_model.safetensors", renamed, {"format": "pt"}, overwrite)
    config = json.dumps(peft_config(renamed), indent=2, default=sorted)
    write_atomically(folder / "adapter_config.json", config.encode("utf-8"))
    return folder


def write_lora(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], overwrite: bool
) -> Path:
    if path.exists() and not overwrite and not holds(path, tensors):
        raise FileExistsError(
            f"{path} exists and is another LoRA. Choose another name, or turn on `overwrite`."
        )
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(tensors, path, metadata)
    return path


def holds(path: Path, tensors: Mapping[str, Tensor]) -> bool:
    """Whether a safetensors file has just these tensors."""
    saved = safetensors.torch.load(path.read_bytes())
    return saved.keys() == tensors.keys() and all(
        torch.equal(saved[name], tensors[name]) for name in tensors
    )


def peft_config(named: Mapping[str, Tensor]) -> dict[str, Any]:
    """PEFT's own LoraConfig for tensors named as PEFT names them."""
    from peft import LoraConfig

    suffix = ".lora_A.weight"
    downs = [key for key in named if key.endswith(suffix)]
    modules = [key.removeprefix("base_model.model.").removesuffix(suffix) for key in downs]
    rank = named[downs[0]].shape[0]
    return LoraConfig(r=rank, lora_alpha=rank, target_modules=modules).to_dict()


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
