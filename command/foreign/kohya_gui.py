"""The JSON files that kohya_ss' page saves: kohya's settings under the page's own names.

There "" is not set, and 0 is off (kohya_gui/lora_gui.py there).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...language import say
from ...trainer.runs.job import Job, JobError
from . import kohya
from .contents import read_options
from .translate import is_set, is_zero, number

MARKS = {"lr_warmup", "max_resolution", "model_list", "additional_parameters"}
"""Keys that its page saves, and no other trainer has."""
NAMES = {
    "max_resolution": "resolution", "optimizer": "optimizer_type", "xformers": "attn_mode",
    "lora_network_weights": "network_weights",
}  # fmt: skip
FLUX_ARGUMENTS = (
    "train_blocks", "split_qkv", "train_double_block_indices", "train_single_block_indices",
    "img_attn_dim", "txt_attn_dim", "img_mlp_dim", "txt_mlp_dim", "img_mod_dim", "txt_mod_dim",
    "single_dim", "single_mod_dim", "in_dims",
)  # fmt: skip
LYCORIS_ARGUMENTS = ("factor", "dora_wd")
# Fields that the page saves for every model and every kind of LoRA
IDLE = {
    "other": "LyCORIS_preset unit constrain rescaled train_on_input use_cp use_tucker use_scalar "
    "bypass_mode decompose_both train_norm rank_dropout_scale clip_skip keep_tokens train_blocks "
    "noise_offset* multires_noise_* min_snr_gamma huber_s* lr_scheduler_power factor dora_wd "
    "loraplus_text_encoder_lr_ratio *timestep model_list epoch split_qkv",
}


def recognise(content: Mapping[str, Any]) -> bool:
    return "LoRA_type" in content or len(MARKS & content.keys()) >= 2


def convert(content: Mapping[str, Any], path: Path) -> tuple[Job, list[str]]:
    """The page's settings as a job. JobError says why for what is no LoRA of FLUX.1."""
    given = {name: value for name, value in content.items() if is_set(value)}
    kind = str(given.pop("LoRA_type", "")).lower()
    require_flux_lora(given, kind)
    settings = {NAMES.get(name, name): value for name, value in given.items()}
    algorithm = re.fullmatch(r"(?:lycoris/|kohya )(.+)", kind)
    named = LYCORIS_ARGUMENTS if algorithm else FLUX_ARGUMENTS
    arguments = [f"algo={algorithm[1]}"] if algorithm else []
    arguments += [f"{name}={given[name]}" for name in named if set_otherwise(given, name)]
    settings |= {"network_module": "networks.lora_flux", "network_args": arguments}
    if off(given, "max_train_epochs") and off(given, "max_train_steps"):
        settings["max_train_epochs"] = given.get("epoch", 1)
    if off(given, "lr_warmup_steps") and not off(given, "lr_warmup"):
        settings["lr_warmup_steps"] = number(given["lr_warmup"], "lr_warmup") / 100  # per cent
    settings.pop("lr_warmup", None)
    settings |= read_options(str(settings.pop("additional_parameters", "")), windows=False)
    return kohya.convert(settings, path, IDLE)


def require_flux_lora(given: dict[str, Any], kind: str) -> None:
    """Raise JobError for files that train another model, or the whole of it."""
    boxes = {
        "Stable Diffusion XL": ("sdxl", "sdxl_checkbox"),
        "Stable Diffusion 3": ("sd3_checkbox",),
        "Stable Diffusion 2": ("v2",),
        "HunyuanImage": ("hunyuan_image_checkbox",),
        "Lumina": ("lumina_checkbox",),
        "Anima": ("anima_checkbox",),
    }
    flux = given.pop("flux1_checkbox", False) is True
    other = [family for family, names in boxes.items() if any(given.get(n) is True for n in names)]
    if not kind:
        raise JobError(
            say(
                "This file of kohya_ss trains a whole model, or an embedding. This trainer "
                "trains LoRAs of FLUX.1: use the LoRA page there."
            )
        )
    if not flux and not kind.startswith("flux1"):
        family = other[0] if other else "Stable Diffusion 1"
        raise JobError(
            say(
                "This file of kohya_ss trains {family} ({name}). This trainer trains FLUX.1: turn "
                "on its box Flux.1 and choose the LoRA type Flux1 there.",
                family=family, name=f"LoRA_type {kind}",
            )
        )  # fmt: skip


def off(given: Mapping[str, Any], name: str) -> bool:
    return is_zero(given.get(name, 0))


def set_otherwise(given: Mapping[str, Any], name: str) -> bool:
    """Whether a field says more than the page's own first value of it."""
    return name in given and given[name] is not False and str(given[name]) not in ("all", "-1")
