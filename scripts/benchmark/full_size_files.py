"""Model files of full size with random weights, in the layouts that users download.

`write(files_of(kind), folder)` writes what one of `KINDS` consists of below `folder`, as ComfyUI
sorts model files. Names and shapes are those of ComfyUI's own classes; values are drawn so that
activations neither vanish nor explode. Needs ComfyUI to be importable.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import comfy.ldm.flux.model
import comfy.ldm.models.autoencoder
import comfy.ldm.qwen_image.model
import comfy.ldm.wan.vae
import comfy.ops
import comfy.text_encoders.llama as llama
import comfy.text_encoders.t5 as t5
import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

BF16, FP8 = torch.bfloat16, torch.float8_e4m3fn
NAMES = {FP8: "F8_E4M3", BF16: "BF16", torch.float32: "F32"}
POOL = 2**25  # drawn values; weights are cut from these, so that 20 GB take seconds, not minutes
PLAIN: dict[str, Any] = dict(dtype=BF16, device="meta", operations=comfy.ops.disable_weight_init)


@dataclass(frozen=True)
class File:
    """One file: where it goes, the module whose state it holds, and whether in scaled fp8.

    `quantised` is a part of the names of the matrices that are; all others are bf16.
    """

    path: str
    module: Callable[..., nn.Module]
    quantised: str = ""


# ---- the modules ---------------------------------------------------------------------------


def klein(double: int = 5, single: int = 20) -> nn.Module:
    return comfy.ldm.flux.model.Flux(
        in_channels=128, out_channels=128, vec_in_dim=None, context_in_dim=7680, hidden_size=3072,
        mlp_ratio=3.0, num_heads=24, depth=double, depth_single_blocks=single, axes_dim=[32] * 4,
        theta=2000, patch_size=1, qkv_bias=False, guidance_embed=False, txt_ids_dims=[3],
        global_modulation=True, mlp_silu_act=True, ops_bias=False, **PLAIN,
    )  # fmt: skip


def flux1(double: int = 19, single: int = 38) -> nn.Module:
    return comfy.ldm.flux.model.Flux(
        in_channels=16, out_channels=16, vec_in_dim=768, context_in_dim=4096, hidden_size=3072,
        mlp_ratio=4.0, num_heads=24, depth=double, depth_single_blocks=single,
        axes_dim=[16, 56, 56], theta=10000, patch_size=2, qkv_bias=True, guidance_embed=True,
        txt_ids_dims=[], **PLAIN,
    )  # fmt: skip


def qwen_image(blocks: int = 60) -> nn.Module:
    return comfy.ldm.qwen_image.model.QwenImageTransformer2DModel(
        num_layers=blocks, default_ref_method="index_timestep_zero", **PLAIN
    )


def t5xxl() -> nn.Module:
    config = json.loads((Path(t5.__file__).parent / "t5_config_xxl.json").read_text("utf-8"))
    return t5.T5(config, **PLAIN)


def clip_l() -> nn.Module:
    with torch.device("meta"):
        model: Any = CLIPTextModel(
            CLIPTextConfig(
                hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
                num_attention_heads=12, vocab_size=49408, max_position_embeddings=77,
            )
        )  # fmt: skip
    file = nn.Module()  # some versions of transformers leave out the file's `text_model.`
    file.text_model = getattr(model, "text_model", model)
    return file


def image_vae(channels: int, **more: Any) -> nn.Module:
    shape = dict(
        double_z=True, z_channels=channels, resolution=256, in_channels=3, out_ch=3, ch=128,
        ch_mult=[1, 2, 4, 4], num_res_blocks=2, attn_resolutions=[], dropout=0.0, **more,
    )  # fmt: skip
    inside = "comfy.ldm.modules.diffusionmodules.model."
    with torch.device("meta"):
        if more:
            return comfy.ldm.models.autoencoder.AutoencoderKL(ddconfig=shape, embed_dim=channels)
        return comfy.ldm.models.autoencoder.AutoencodingEngine(
            encoder_config={"target": inside + "Encoder", "params": shape},
            decoder_config={"target": inside + "Decoder", "params": shape},
            regularizer_config={
                "target": "comfy.ldm.models.autoencoder.DiagonalGaussianRegularizer"
            },
        )


def qwen_vae() -> nn.Module:
    with torch.device("meta"):
        return comfy.ldm.wan.vae.WanVAE(
            dim=96, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2, attn_scales=[],
            temperal_downsample=[False, True, True], image_channels=3, conv_out_channels=3,
            dropout=0.0,
        )  # fmt: skip


KINDS: Mapping[str, tuple[File, ...]] = {
    "klein": (
        File("diffusion_models/flux-2-klein-base-4b.safetensors", klein),
        File(
            "text_encoders/qwen_3_4b_fp8_mixed.safetensors",
            lambda: llama.Qwen3_4B({}, **PLAIN),
            "model.layers.",
        ),
        File("vae/flux2-vae.safetensors", lambda: image_vae(32, batch_norm_latent=True)),
    ),
    "kontext": (
        File("diffusion_models/flux1-dev-kontext_fp8_scaled.safetensors", flux1, "."),
        File("text_encoders/clip_l.safetensors", clip_l),
        File("text_encoders/t5xxl_fp8_e4m3fn_scaled.safetensors", t5xxl, "encoder.block."),
        File("vae/ae.safetensors", lambda: image_vae(16)),
    ),
    "qwen": (
        File(
            "diffusion_models/qwen_image_edit_2511_fp8mixed.safetensors",
            qwen_image,
            "transformer_blocks.",
        ),
        File(
            "text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors",
            lambda: llama.Qwen25_7BVLI({}, **PLAIN),
            "model.layers.",
        ),
        File("vae/qwen_image_vae.safetensors", qwen_vae),
    ),
}


# ---- their values --------------------------------------------------------------------------


class Values:
    """Normal numbers, cut from one pool at changing places."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.pool = torch.randn(POOL, generator=self.generator)
        self.pools: dict[torch.dtype, Tensor] = {}

    def normal(self, shape: tuple[int, ...], dtype: torch.dtype, spread: float) -> Iterator[Tensor]:
        """Parts of a tensor of normal numbers of this standard deviation; of fp8 it is 0.5."""
        if dtype == FP8:
            pool = self.pools.setdefault(FP8, (self.pool * 0.5).to(FP8))
            spread = 1.0
        else:
            pool = self.pool
        left = math.prod(shape)
        while left:
            start = int(torch.randint(POOL // 2, (1,), generator=self.generator))
            part = pool[start : start + min(left, POOL // 2)]
            left -= len(part)
            yield part if spread == 1.0 else (part * spread).to(dtype)


def entries(file: File, values: Values) -> Iterator[tuple[str, tuple[int, ...], torch.dtype, Any]]:
    """Name, shape, dtype and parts of every tensor of a file."""
    for name, like in file.module().state_dict().items():
        shape = tuple(like.shape)
        if like.ndim > 1:
            spread = like[0].numel() ** -0.5  # a gain of 1
            if "_mod" in name or "modulation" in name:  # as small as trained ones
                spread *= 0.1
            if file.quantised and file.quantised in name and like.ndim == 2 and "bias" not in name:
                scale = torch.full((1,), 2 * spread)
                yield name, shape, FP8, values.normal(shape, FP8, spread)
                yield name.removesuffix("weight") + "scale_weight", (), torch.float32, [scale]
            else:
                yield name, shape, BF16, values.normal(shape, BF16, spread)
        elif "norm" in name or "gamma" in name or "running_var" in name:
            if like.dtype.is_floating_point:
                bias = name.endswith("bias")
                yield name, shape, BF16, [torch.full(shape, 0.0 if bias else 1.0, dtype=BF16)]
        elif like.dtype.is_floating_point:
            yield name, shape, BF16, values.normal(shape, BF16, 0.02)
    if file.quantised:
        yield "scaled_fp8", (2,), FP8, [torch.zeros(2).to(FP8)]


def write_file(file: File, folder: Path, values: Values) -> Path:
    """In safetensors' format, part by part: a file larger than memory can be written."""
    path = folder / file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    listed = list(entries(file, values))
    header, end = {}, 0
    for name, shape, dtype, _ in listed:
        start, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": NAMES[dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for *_, parts in listed:
            for part in parts:
                out.write(part.contiguous().view(torch.uint8).numpy().data)
    return path


def files_of(kind: str, blocks: Sequence[int] = ()) -> tuple[File, ...]:
    """The files of a kind, the model first; with so many blocks of each sort, if given."""
    model, *others = KINDS[kind]
    if blocks:
        cut = "_".join(map(str, blocks))
        path = model.path.replace(".safetensors", f"_{cut}_blocks.safetensors")
        model = replace(model, path=path, module=partial(model.module, *blocks))
    return model, *others


def write(files: Iterable[File], folder: Path) -> list[Path]:
    """Write what is not there yet; returns the paths of all files."""
    values, paths = Values(), []
    for file in files:
        path = folder / file.path
        if not path.exists():
            print(f"writing {file.path} …", flush=True)
            partly = replace(file, path=file.path + ".part")
            write_file(partly, folder, values).rename(path)
        paths.append(path)
    return paths
