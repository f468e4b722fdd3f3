"""FLUX.2: Klein base 4B and 9B, and dev."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn.functional import pad

from ...language import say
from .. import host
from ..batch import Text
from .family import Blocks, Family, has_rows

DOUBLE = Blocks(
    "double_blocks",
    "transformer_blocks",
    {
        "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
        "img_attn.proj": ("attn.to_out.0",),
        "img_mlp.0": ("ff.linear_in",),
        "img_mlp.2": ("ff.linear_out",),
        "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
        "txt_attn.proj": ("attn.to_add_out",),
        "txt_mlp.0": ("ff_context.linear_in",),
        "txt_mlp.2": ("ff_context.linear_out",),
    },
    # as FLUX.1's; the MLP with its gate: both before (6), the gate after SiLU (3), the product (3)
    kept=24,
    last=("img_mlp.2", "txt_mlp.2"),
)
SINGLE = Blocks(
    "single_blocks",
    "single_transformer_blocks",
    {"linear1": ("attn.to_qkv_mlp_proj",), "linear2": ("attn.to_out",)},
    # as FLUX.1's; the first linear is 9, the gate after SiLU 3, attention with the MLP 4
    kept=21,
    last=("linear2",),
)
BLOCKS = ("_attn.", "_mlp.", "linear1", "linear2")
TEXT_TOKENS = 512
STEPS = 50  # that the maker's sampler is made for; its shift grows a little with fewer
# Width of the network, its name, and the files of its text encoder and of its base
MEMBERS = {
    3072: ("Klein base 4B", "qwen_3_4b.safetensors", "flux-2-klein-base-4b.safetensors"),
    4096: ("Klein base 9B", "qwen_3_8b_fp8mixed.safetensors", "flux-2-klein-base-9b.safetensors"),
    6144: ("dev", "mistral_3_small_flux2_bf16.safetensors", "flux2_dev_fp8mixed.safetensors"),
}
UNKNOWN = ("Klein base", "qwen_3_4b.safetensors", "flux-2-klein-base-4b.safetensors")


def resolution_shift(tokens: int, steps: int = STEPS) -> float:
    """FLUX.2's timestep shift exp(mu) for this many target tokens.

    mu is linear in the tokens, between a line for 10 steps and one for 200 (black-forest-labs/
    flux2, compute_empirical_mu; ComfyUI's Flux2Scheduler).
    """
    many = 0.00016927 * tokens + 0.45666666
    if tokens > 4300:
        return math.exp(many)
    few = 8.73809524e-05 * tokens + 1.89833333
    return math.exp(many + (few - many) * (200 - steps) / 190)


class Flux2(Family):
    title = "FLUX.2"
    classes = "comfy.model_base.Flux2", "comfy.ldm.flux.model.Flux"
    files = {
        "diffusion_model": "flux-2-klein-base-4b.safetensors",
        "text_encoders": "[qwen_3_4b.safetensors]",
        "vae": "flux2-vae.safetensors",
    }
    clip_type = "flux2"
    channels = 128
    pixels = 16
    patch = 1
    kinds = (DOUBLE, SINGLE)
    # modulation is shared by all blocks, and not among them: `all` is `blocks`
    targets = {"attention": ("_attn.", "linear1", "linear2"), "blocks": BLOCKS, "all": BLOCKS}
    transient = 13

    def check_text_encoder(self, encoder: Any) -> None:
        name, needed = self.network.params.context_in_dim, self.text_encoder
        fits = "comfy.text_encoders.flux.Flux2TEModel" in host.class_names(encoder)
        width = host.text_width(encoder) * 3 if fits else 0  # three layers' states, joined
        if width != name:
            raise host.BaseModelError(
                say(
                    "The text encoder is {encoder} ({width} wide), this {model} needs {needed} "
                    "({expected}). Load it with CLIPLoader, type flux2.",
                    encoder=type(encoder).__name__.rstrip("_"),
                    width=width or "?",
                    model=self.member,
                    needed=needed,
                    expected=name,
                )
            )

    @property
    def width(self) -> int:
        return self.network.params.hidden_size

    @property
    def guided(self) -> bool:
        """Whether the network has an embedding of guidance, as dev has."""
        return self.network.params.guidance_embed

    @property
    def distilled(self) -> bool:
        name = self.file_name.lower()
        return ("klein" in name and "base" not in name) or "turbo" in name

    @property
    def member(self) -> str:
        member = MEMBERS.get(self.width, ("dev",) if self.guided else UNKNOWN)[0]
        return f"{self.title} {member.replace('base ', '') if self.distilled else member}"

    @property
    def text_encoder(self) -> str:
        return MEMBERS.get(self.width, UNKNOWN)[1]

    @property
    def base_file(self) -> str:
        return MEMBERS.get(self.width, UNKNOWN)[2]

    @property
    def contrasts(self) -> bool:
        return not self.guided and not self.distilled

    @property
    def guidance(self) -> float:
        return 4.0 if self.guided else 5.0 if self.contrasts else 1.0

    def encode_text(
        self, clip: host.Clip, text: str, pictures: Sequence[Tensor] = (), limit: int = 0
    ) -> Text:
        """As the model's own conditioning pads it: zeros on the left, to 512 tokens."""
        cond = host.encode_text(clip, text, limit).cond
        return Text(pad(cond, (0, 0, max(0, TEXT_TOKENS - cond.shape[1]), 0)))

    def shift(self, latent: Sequence[int]) -> float:
        return resolution_shift(self.tokens(latent))

    def sigmas(self, model: host.Model, width: int, height: int, steps: int) -> Tensor:
        nodes_flux = host.comfy_module("comfy_extras.nodes_flux")
        return host.scheduled_sigmas(nodes_flux.Flux2Scheduler, steps, width, height)

    @classmethod
    def fits(cls, tensors: Mapping[str, Tensor]) -> bool:
        """FLUX.1's MLPs are four times as wide, these three times, with gates."""
        ratios = {"linear1": 9, "img_mlp.0": 6, "txt_mlp.0": 6}
        found = [has_rows(tensors, linear, ratio) for linear, ratio in ratios.items()]
        return super().fits(tensors) and False not in found and True in found

    @classmethod
    def metadata(cls) -> dict[str, str]:
        return {
            "modelspec.architecture": "Flux.2-dev/lora",
            "modelspec.implementation": "https://github.com/black-forest-labs/flux2",
            "ss_base_model_version": "flux2",
            "ss_network_module": "networks.lora_flux_2",
        }

    def about(self) -> dict[str, str]:
        size = self.member.rsplit(" ", 1)[-1].lower()
        name = "Flux.2-dev" if self.guided else f"Flux.2-klein-{size}"
        return {**self.metadata(), "modelspec.architecture": f"{name}/lora"}
