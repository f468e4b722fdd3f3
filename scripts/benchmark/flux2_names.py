"""FLUX.2's weights under the names of diffusers' transformer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from kontext.trainer.families.flux2 import Flux2
from torch import Tensor

NORMS = {
    "img_attn.norm.query_norm": "attn.norm_q", "img_attn.norm.key_norm": "attn.norm_k",
    "txt_attn.norm.query_norm": "attn.norm_added_q", "txt_attn.norm.key_norm": "attn.norm_added_k",
    "norm.query_norm": "attn.norm_q", "norm.key_norm": "attn.norm_k",
}  # fmt: skip
OUTSIDE = {
    "img_in": "x_embedder", "txt_in": "context_embedder", "final_layer.linear": "proj_out",
    "time_in.in_layer": "time_guidance_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_guidance_embed.timestep_embedder.linear_2",
    "guidance_in.in_layer": "time_guidance_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_guidance_embed.guidance_embedder.linear_2",
}  # fmt: skip


def in_diffusers_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The family's own table of linears, and what is no linear of a block."""
    renamed: dict[str, Tensor] = {}
    for key, tensor in weights.items():
        name = key.removesuffix(".weight")
        if "blocks." in name:
            start, index, part = name.split(".", 2)
            theirs = next(kind.theirs for kind in Flux2.kinds if kind.ours == start)
            rows = {f"{theirs}.{index}.{NORMS[part]}": tensor} if part in NORMS else None
            renamed |= {f"{n}.weight": t for n, t in (rows or Flux2.split(name, tensor)).items()}
        elif name == "final_layer.adaLN_modulation.1":  # shift, scale there; scale, shift here
            renamed["norm_out.linear.weight"] = torch.cat(tensor.chunk(2)[::-1])
        elif name.endswith(".lin"):
            renamed[f"{name.removesuffix('.lin')}.linear.weight"] = tensor
        else:
            renamed[f"{OUTSIDE[name]}.weight"] = tensor
    return renamed
