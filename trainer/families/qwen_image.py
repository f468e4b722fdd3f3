"""Qwen-Image: Edit, Edit-2509 and Edit-2511 on pairs, and Qwen-Image on single pictures.

The text encoder sees the control pictures. Latents have an axis of frames inside the network only:
everywhere else they are [B, channels, h, w].
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from ...language import say
from .. import host
from ..batch import Text
from .family import Blocks, Family

LINEARS = (
    "attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "attn.add_q_proj", "attn.add_k_proj",
    "attn.add_v_proj", "attn.to_add_out", "img_mlp.net.0.proj", "img_mlp.net.2",
    "txt_mlp.net.0.proj", "txt_mlp.net.2", "img_mod.1", "txt_mod.1",
)  # fmt: skip
BLOCK = Blocks(
    "transformer_blocks",
    "transformer_blocks",
    {name: (name,) for name in LINEARS},
    # 4 copies before norms and linears; q and k before their norm (2); q, k, v, joined (3);
    # attention (2); the MLP before and after GELU (8); the LoRA's own
    kept=20,
    last=("img_mlp.net.2", "txt_mlp.net.2"),
    gates=("img_mod.1", "txt_mod.1"),
)
# In the last block the text stream ends: there these would get no gradient, or zeros
DEAD = ("attn.to_add_out", "attn.add_q_proj", "txt_mlp.net.0.proj", "txt_mlp.net.2")
BASES = {
    "Qwen-Image": "qwen_image_fp8_e4m3fn.safetensors",
    "Qwen-Image-Edit": "qwen_image_edit_fp8_e4m3fn.safetensors",
    "Qwen-Image-Edit-2509": "qwen_image_edit_2509_fp8_e4m3fn.safetensors",
    "Qwen-Image-Edit-2511": "qwen_image_edit_2511_bf16.safetensors",
}
TIMESTEP_ZERO = "index_timestep_zero"
MOST_PICTURES = 3  # as many as the text encoder's node takes


class QwenImage(Family):
    title = "Qwen-Image"
    classes = (
        "comfy.model_base.QwenImage",
        "comfy.ldm.qwen_image.model.QwenImageTransformer2DModel",
    )
    files = {
        "diffusion_model": "qwen_image_edit_2511_bf16.safetensors",
        "text_encoders": "[qwen_2.5_vl_7b_fp8_scaled.safetensors]",
        "vae": "qwen_image_vae.safetensors",
    }
    clip_type = "qwen_image"
    channels = 16
    pixels = 8
    patch = 2
    multiple = 32  # an even number of tokens: where ComfyUI and diffusers place them alike
    kinds = (BLOCK,)
    transient, ends = 3, 1
    streams = {
        "hidden_states": "img", "encoder_hidden_states": "txt", "image_rotary_emb": "turns",
        "timestep_zero_index": "split", "encoder_hidden_states_mask": "mask",
    }  # fmt: skip
    targets = {
        "attention": ("attn.",),
        "blocks": ("attn.", "_mlp."),
        "all": ("attn.", "_mlp.", "_mod.1"),
    }
    sees_pictures = True
    pads_text = True
    contrasts = True

    def check_model(self) -> None:
        if self.network.time_text_embed.use_additional_t_cond:
            raise host.BaseModelError(
                say(
                    "This is Qwen-Image-Layered, whose layers of one picture are not trained here. "
                    "Load {file}.",
                    file=self.files["diffusion_model"],
                )
            )
        super().check_model()

    def check_vae(self, vae: host.Vae) -> None:
        super().check_vae(vae)
        if vae.latent_dim != 3:
            raise host.BaseModelError(
                say(
                    "This VAE has {family}'s number of channels but is another one. Load {file}.",
                    family=self.title,
                    file=self.files["vae"],
                )
            )

    def check_text_encoder(self, encoder: Any) -> None:
        fits = "comfy.text_encoders.qwen_image.QwenImageTEModel" in host.class_names(encoder)
        expected = self.network.txt_norm.weight.shape[0]
        if not fits or host.text_width(encoder) != expected:
            raise host.BaseModelError(
                say(
                    "The text encoder is {encoder}, {model} needs qwen_2.5_vl_7b ({expected} "
                    "wide). Load it with CLIPLoader, type qwen_image.",
                    encoder=type(encoder).__name__.rstrip("_"),
                    model=self.title,
                    expected=expected,
                )
            )

    @property
    def width(self) -> int:
        return self.network.inner_dim

    @property
    def method(self) -> str:
        """How references are placed and modulated: 2511's are modulated as free of noise."""
        return self.reference_method or self.network.default_ref_method

    @property
    def reference_method(self) -> str:
        """For a 2511 without its mark, the method that ComfyUI's own graph sets for it."""
        marked = self.network.default_ref_method == TIMESTEP_ZERO
        return TIMESTEP_ZERO if "2511" in self.file_name and not marked else ""

    @property
    def edits(self) -> bool:
        """Whether it is an edit model: 2511 is marked, others are known by their file names."""
        return self.method == TIMESTEP_ZERO or "edit" in self.file_name.lower()

    @property
    def distilled(self) -> bool:
        name = self.file_name.lower()
        return any(word in name for word in ("lightning", "turbo", "distill"))

    @property
    def member(self) -> str:
        name = self.file_name.lower()
        if self.method == TIMESTEP_ZERO:
            return "Qwen-Image-Edit-2511"
        if "edit" in name:
            return "Qwen-Image-Edit" + ("-2509" if "2509" in name or "plus" in name else "")
        return self.title

    @property
    def base_file(self) -> str:
        return BASES[self.member]

    @property
    def guidance(self) -> float:
        return 1.0 if self.distilled else 2.5 if self.edits else 4.0

    def notes(self) -> list[str]:
        notes = []
        if self.reference_method:
            notes.append(
                say(
                    "{file} lacks the mark of 2511 (__index_timestep_zero__) and is trained as "
                    "2511 because of its name. Use the LoRA with Edit Model Reference Method set "
                    "to index_timestep_zero, as in ComfyUI's own graph.",
                    file=self.file_name,
                )
            )
        return notes + super().notes()

    def encode_text(
        self, clip: host.Clip, text: str, pictures: Sequence[Tensor] = (), limit: int = 0
    ) -> Text:
        """With the node of ComfyUI's own graphs, which is also used to prompt the LoRA later."""
        if not pictures and not self.edits:
            return host.encode_text(clip, text, limit)
        nodes_qwen = host.comfy_module("comfy_extras.nodes_qwen")
        if self.member == "Qwen-Image-Edit":
            node, names = nodes_qwen.TextEncodeQwenImageEdit, ["image"]
        else:
            node = nodes_qwen.TextEncodeQwenImageEditPlus
            names = [f"image{n}" for n in range(1, MOST_PICTURES + 1)]
        if len(pictures) > len(names):
            raise host.BaseModelError(
                say(
                    "A pair has {count} control pictures; {model} takes {most}.",
                    count=len(pictures),
                    model=self.member,
                    most=len(names),
                )
            )
        shown = dict(zip(names, pictures, strict=False))
        return host.encode_by_node(node, clip, limit, prompt=text, **shown)

    def normalised(self, raw: Tensor) -> Tensor:
        return super().normalised(raw).squeeze(2)

    def predict(
        self,
        noised: Tensor,
        sigma: Tensor,
        text: Text,
        references: Sequence[Tensor],
        guidance: float,
    ) -> Tensor:
        frames = [reference.unsqueeze(2) for reference in references]
        return super().predict(noised.unsqueeze(2), sigma, text, frames, guidance).squeeze(2)

    def shift(self, latent: Sequence[int]) -> float:
        """The shift in ComfyUI's own graphs, whatever the size."""
        return 3.1 if self.method == TIMESTEP_ZERO else 3.0

    def sampled_with(self, model: host.Model) -> host.Model:
        shifted = host.with_shift(model, self.shift(()))
        return host.with_guidance_norm(shifted) if self.edits else shifted

    @classmethod
    def targeted(cls, names: Iterable[str], targets: str) -> list[str]:
        chosen = super().targeted(names, targets)
        last = max(int(name.split(".")[1]) for name in chosen)
        dead = {f"{BLOCK.ours}.{last}.{linear}" for linear in DEAD}
        return [name for name in chosen if name not in dead]

    @classmethod
    def metadata(cls) -> dict[str, str]:
        return {
            "modelspec.architecture": "Qwen-Image/lora",
            "modelspec.implementation": "https://github.com/QwenLM/Qwen-Image",
            "ss_base_model_version": "qwen_image",
            "ss_network_module": "networks.lora_qwen_image",
        }

    def about(self) -> dict[str, str]:
        name = self.member.replace("2509", "Plus")
        more = {"modelspec.architecture": f"{name}/lora", "ss_reference_method": self.method}
        return {**self.metadata(), **more}
