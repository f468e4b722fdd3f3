"""LoRA files with the key names of other programs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from ...files import storing, write_atomically
from ...language import say
from ..families import FAMILIES, family_of_lora, known_families
from ..files import LoraError, save_tensors
from .metadata import save_lora

FORMATS = ("comfyui", "diffusers", "peft")

# Parts of an adapter: our names, and those in kohya's and LyCORIS' files
PARTS = {
    "down": "lora_down.weight",
    "up": "lora_up.weight",
    "dora_scale": "dora_scale",
    **{part: part for part in ("lokr_w1", "lokr_w2", "lokr_w2_a", "lokr_w2_b")},
    **{part: part for part in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")},
}
KINDS = {"dora_scale": "DoRA", "lokr_w1": "LoKr", "hada_w1_a": "LoHa"}  # plain LoRA has none
OF_RANK = ("down", "lokr_w2_b", "hada_w1_b")  # parts [rank, …]


def comfyui_tensors(
    tensors: Mapping[str, Tensor], alpha: float, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Tensors in kohya's names, which ComfyUI, Forge, SwarmUI, diffusers and nunchaku read.

    `tensors` are `<linear>.<part>`, with the parts of PARTS; every layer gets its `.alpha`. A
    dora_scale multiplies the whole weight and stays in float32.
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
    """Tensors in diffusers' names, with alpha / rank in `lora_B`: these files have no alpha."""
    named: dict[str, Tensor] = {}
    family = family_of_lora(tensors)
    for name, down, up in layers(tensors):
        scale = alpha / down.shape[0]
        for part, rows in family.split(name, up).items():
            named[f"{prefix}.{part}.lora_A.weight"] = down.to(dtype).clone()
            named[f"{prefix}.{part}.lora_B.weight"] = (rows * scale).to(dtype)
    return named


def read_lora(named: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], float]:
    """Tensors `<linear>.<part>` of a LoRA with kohya's, LyCORIS' or ComfyUI's key names; its alpha.

    Raises LoraError for a file that is for no known model, or has parts that are not in PARTS.
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
        raise LoraError(
            say("This is not a LoRA with one alpha: {alphas}.", alphas=sorted(alphas) or "-")
        )
    return tensors, alphas.pop() if alphas else 1.0


def part_of_layer(key: str) -> tuple[str, str]:
    """The layer that a key belongs to, and our name for its part. Raises LoraError."""
    for part, suffix in PARTS.items():
        if key.endswith(f".{suffix}"):
            return key.removesuffix(f".{suffix}"), part
    raise LoraError(say("{key} is not part of a LoRA in kohya's or ComfyUI's names.", key=key))


def kind_of(tensors: Mapping[str, Tensor]) -> str:
    """LoRA, DoRA, LoKr or LoHa, by the parts."""
    parts = {key.rsplit(".", 1)[1] for key in tensors}
    return next((kind for part, kind in KINDS.items() if part in parts), "LoRA")


def unfit(kind: str) -> str:
    """Why neither diffusers nor PEFT supports this kind of adapter."""
    if kind == "DoRA":
        return say(
            "diffusers and PEFT normalise the rows of the weight, this adapter its columns, as "
            "LyCORIS does"
        )
    if kind == "LoKr":
        return say(
            "diffusers has no such layers, and q, k and v are one layer here but three there"
        )
    return say("diffusers has no such layers")


def linear_name(prefix: str) -> str:
    """ComfyUI's name of the linear that `lora_unet_…` or `diffusion_model.…` stands for."""
    words = prefix.removeprefix("diffusion_model.").removeprefix("lora_unet_").replace(".", "_")
    for family in FAMILIES:
        name = family.linear_name(words)
        if name:
            return name
    raise LoraError(
        say("{name} is not a layer of {known}'s blocks.", name=prefix, known=known_families())
    )


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
    """Write a LoRA that has kohya's or ComfyUI's key names in one of FORMATS; returns its path.

    `peft` makes a folder: `path` without its suffix. Raises FileExistsError if another LoRA is
    there, unless `overwrite`, and LoraError for an adapter that the format does not support.
    """
    tensors, alpha = read_lora(named)
    kind = kind_of(tensors)
    dtype = next(t.dtype for name, t in tensors.items() if not name.endswith(".dora_scale"))
    if format == "comfyui":
        renamed = comfyui_tensors(tensors, alpha, dtype)
        make_room(path, renamed, overwrite)
        save_lora(renamed, path, metadata)
        return path
    if kind != "LoRA":
        raise LoraError(
            say(
                "This is a {kind}, which cannot be saved as {format}: {reason}. Save it as "
                "comfyui, or train with `adapter` lora.",
                kind=kind,
                format=format,
                reason=unfit(kind),
            )
        )
    if format == "diffusers":
        renamed = diffusers_tensors(tensors, alpha, dtype)
        make_room(path, renamed, overwrite)
        save_lora(renamed, path, metadata)
        return path
    folder = path.with_suffix("")
    renamed = diffusers_tensors(tensors, alpha, dtype, prefix="base_model.model")
    make_room(folder / "adapter_model.safetensors", renamed, overwrite)
    save_tensors(renamed, folder / "adapter_model.safetensors", {"format": "pt"})
    write_atomically(folder / "adapter_config.json", peft_config(renamed))
    return folder


def make_room(path: Path, tensors: Mapping[str, Tensor], overwrite: bool) -> None:
    """Make the folder for a file with these tensors.

    Raises FileExistsError if another LoRA is there, unless `overwrite`.
    """
    if path.exists() and not overwrite and not holds(path, tensors):
        raise FileExistsError(
            say(
                "{path} exists and is another LoRA. Choose another name, or turn on `overwrite`.",
                path=path,
            )
        )
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)


def holds(path: Path, tensors: Mapping[str, Tensor]) -> bool:
    """Whether a safetensors file has exactly these tensors."""
    saved = safetensors.torch.load(path.read_bytes())
    return saved.keys() == tensors.keys() and all(
        torch.equal(saved[name], tensors[name]) for name in tensors
    )


def peft_config(named: Mapping[str, Tensor]) -> bytes:
    """adapter_config.json, written by PEFT itself, for tensors in PEFT's names."""
    from peft import LoraConfig

    suffix = ".lora_A.weight"
    downs = [key for key in named if key.endswith(suffix)]
    modules = [key.removeprefix("base_model.model.").removesuffix(suffix) for key in downs]
    rank = named[downs[0]].shape[0]
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=modules, inference_mode=True)
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        return Path(folder, "adapter_config.json").read_bytes()
