"""LoRA files: the names other programs know, and the metadata they read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from ...files import storing, write_atomically
from ..families import FAMILIES, family_of_lora, known_families
from ..files import LoraError, save_tensors

FORMATS = ("comfyui", "diffusers", "peft")

# Parts of an adapter: our names, and what they are called in kohya's and LyCORIS' files
PARTS = {
    "down": "lora_down.weight",
    "up": "lora_up.weight",
    "dora_scale": "dora_scale",
    **{part: part for part in ("lokr_w1", "lokr_w2", "lokr_w2_a", "lokr_w2_b")},
    **{part: part for part in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")},
}
KINDS = {"dora_scale": "DoRA", "lokr_w1": "LoKr", "hada_w1_a": "LoHa"}  # plain LoRA has none
UNFIT = {
    "DoRA": "diffusers and PEFT measure the weight by rows, this one by columns, as LyCORIS does",
    "LoKr": "diffusers has no such layers, and q, k and v are one here, three there",
    "LoHa": "diffusers has no such layers",
}
OF_RANK = ("down", "lokr_w2_b", "hada_w1_b")  # parts [rank, …]


def comfyui_tensors(
    tensors: Mapping[str, Tensor], alpha: float, dtype: torch.dtype
) -> dict[str, Tensor]:
    """kohya's names, which ComfyUI, Forge, SwarmUI, diffusers and nunchaku read.

    `tensors` are `<linear>.down` and `<linear>.up`, or what PARTS has beside them; every layer
    gets its `.alpha`. A dora_scale multiplies the whole weight: it stays in float32.
    """
    named: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        name, part = key.rsplit(".", 1)
        prefix = f"lora_unet_{name.replace('.', '_')}"
        exact = part == "dora_scale"
        named[f"{prefix}.{PARTS[part]}"] = tensor.to(torch.float32 if exact else dtype)
        named[f"{prefix}.alpha"] = torch.tensor(float(alpha))
    return named


def diffusers_tensors(
    tensors: Mapping[str, Tensor], alpha: float, dtype: torch.dtype, prefix: str = "transformer"
) -> dict[str, Tensor]:
    """diffusers' names; alpha / rank is folded into `lora_B`, as these files carry no alpha."""
    named: dict[str, Tensor] = {}
    family = family_of_lora(tensors)
    for name, down, up in layers(tensors):
        scale = alpha / down.shape[0]
        for part, rows in family.split(name, up).items():
            named[f"{prefix}.{part}.lora_A.weight"] = down.to(dtype).clone()
            named[f"{prefix}.{part}.lora_B.weight"] = (rows * scale).to(dtype)
    return named


def read_lora(named: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], float]:
    """`<linear>.<part>` of a LoRA in kohya's, LyCORIS' or ComfyUI's names, and its alpha.

    Raises LoraError for a file that is for no known model, or has other parts than PARTS.
    """
    tensors: dict[str, Tensor] = {}
    alphas = set()
    for key, tensor in named.items():
        if key.endswith(".alpha"):
            continue
        prefix, part = part_of_layer(key)
        tensors[f"{linear_name(prefix)}.{part}"] = tensor
        if part in OF_RANK:
            alphas.add(float(named.get(f"{prefix}.alpha", tensor.shape[0])))
    if not tensors or len(alphas) > 1:
        raise LoraError(f"This is not a LoRA of one alpha: {sorted(alphas) or 'empty'}.")
    return tensors, alphas.pop() if alphas else 1.0


def part_of_layer(key: str) -> tuple[str, str]:
    """A file's name of a layer, and our name of its part."""
    for part, suffix in PARTS.items():
        if key.endswith(f".{suffix}"):
            return key.removesuffix(f".{suffix}"), part
    raise LoraError(f"{key} is no part of a LoRA in kohya's or ComfyUI's names.")


def kind_of(tensors: Mapping[str, Tensor]) -> str:
    """LoRA, DoRA, LoKr or LoHa, by its parts."""
    parts = {key.rsplit(".", 1)[1] for key in tensors}
    return next((kind for part, kind in KINDS.items() if part in parts), "LoRA")


def linear_name(prefix: str) -> str:
    """ComfyUI's name of the linear that `lora_unet_…` or `diffusion_model.…` stands for."""
    words = prefix.removeprefix("diffusion_model.").removeprefix("lora_unet_").replace(".", "_")
    for family in FAMILIES:
        name = family.linear_name(words)
        if name:
            return name
    raise LoraError(f"{prefix} is no linear of {known_families()}'s blocks.")


def layers(tensors: Mapping[str, Tensor]) -> Iterable[tuple[str, Tensor, Tensor]]:
    for key, down in tensors.items():
        if key.endswith(".down"):
            name = key.removesuffix(".down")
            yield name, down, tensors[f"{name}.up"]


def export_lora(
    named: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    path: Path,
    format: str,
    overwrite: bool = False,
) -> Path:
    """Write a LoRA, given in kohya's or ComfyUI's names, in one of FORMATS; returns where it is.

    `peft` makes a folder: `path` without its suffix. Raises FileExistsError rather than replace
    another LoRA, unless `overwrite`, and LoraError for a kind that the format has no place for.
    """
    tensors, alpha = read_lora(named)
    kind = kind_of(tensors)
    dtype = next(t.dtype for name, t in tensors.items() if not name.endswith(".dora_scale"))
    if format == "comfyui":
        return write_lora(path, comfyui_tensors(tensors, alpha, dtype), metadata, overwrite)
    if kind != "LoRA":
        raise LoraError(
            f"This is a {kind}, which cannot be saved as {format}: {UNFIT[kind]}. Save it as "
            "comfyui, or train with `adapter` lora."
        )
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


def network(config: Mapping[str, object]) -> dict[str, str]:
    """What LyCORIS' metadata call the kind of adapter; nothing for a plain LoRA."""
    kind = config["adapter"]
    if kind == "lora":
        return {}
    arguments = {
        "dora": {"algo": "lora", "dora_wd": "True", "wd_on_output": "False"},
        "lokr": {"algo": "lokr", "factor": str(config["lokr_factor"] or -1)},
        "loha": {"algo": "loha"},
    }
    return {
        "ss_network_module": "lycoris.kohya",
        "ss_network_args": json.dumps(arguments[str(kind)]),
    }


def model_metadata(
    name: str,
    tensors: Mapping[str, Tensor],
    config: Mapping[str, object],
    base_hash: str,
    dataset_hash: str,
    step: int,
    about: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """modelspec.* (Stability's model specification 1.0.0) and ss_* (kohya) entries.

    `about` is what the family says of the model; without it, what the tensors tell.
    """
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(tensors[key].float().numpy().tobytes())
    return {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.title": name,
        "modelspec.hash_sha256": f"0x{digest.hexdigest()}",
        **(about or family_of_lora(tensors).metadata()),
        **network(config),
        "ss_network_dim": str(config["rank"]),
        "ss_network_alpha": str(config["alpha"]),
        "ss_learning_rate": str(config["learning_rate"]),
        "ss_steps": str(step),
        "ss_output_name": name,
        "ss_sd_model_hash": base_hash,
        "ss_dataset_hash": dataset_hash,
        "ss_training_config": json.dumps(dict(config)),
    }
