"""Which model another trainer's file is for, and what its files are called in ComfyUI."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from ...language import say
from ...trainer.host.files import EXAMPLES
from ...trainer.runs.job import JobError
from .translate import Theirs, shortened

QWEN_TEXT, QWEN_VAE = "qwen_2.5_vl_7b_fp8_scaled", "qwen_image_vae"
SUFFIXES = (".safetensors", ".sft", ".gguf")
# Patterns of names; the first match counts. "" is trained here; so, perhaps, are unknown ones
FAMILIES = (
    (r"schnell", "FLUX.1-schnell"),
    (r"flux.*(fill|canny|depth|redux)", "FLUX.1 Fill, Canny, Depth or Redux"),
    (r"flux|kontext|klein", ""),
    (r"qwen[\W_]*image[\W_]*(2\.|layered)", "Qwen-Image 2 or Layered"),
    (r"qwen", ""),
    (r"chroma", "Chroma"),
    (r"sdxl|sd[\W_]?xl|stable[\W_]diffusion[\W_]xl|pony|illustrious", "Stable Diffusion XL"),
    (r"\bsd[\W_]?3|stable[\W_]diffusion[\W_]3", "Stable Diffusion 3"),
    (r"\bsd[\W_]?v?[12]|stable[\W_]diffusion|^v[12]\b|\.ckpt$", "Stable Diffusion 1 or 2"),
    (r"wan[\W_]?2|^wan\b|^wan", "Wan"),
    (r"hunyuan|^hv$", "Hunyuan"),
    (r"z[\W_]?image", "Z-Image"),
    (
        r"(hidream|lumina|flex|auraflow|kolors|pixart|cosmos|ltx|sana|omnigen|longcat|ernie|krea"
        r"|anima|cascade|wuerstchen|ideogram|minimax|framepack|fpack|kandinsky|ace[\W_]?step"
        r"|deepfloyd|hidream|ideogram)\w*",
        r"\1",
    ),
)


# Patterns of names; the first match counts: model, text encoder and VAE as ComfyUI names them
USUAL = (
    (r"(flux[\W_]*2|klein).*9b", "flux-2-klein-base-9b-fp8", "qwen_3_8b_fp8mixed", "flux2-vae"),
    (r"flux[\W_]*2.*dev", "flux2_dev_fp8mixed", "mistral_3_small_flux2_fp8", "flux2-vae"),
    (r"flux[\W_]*2|klein", "flux-2-klein-base-4b-fp8", "qwen_3_4b", "flux2-vae"),
    (r"qwen.*2511", "qwen_image_edit_2511_fp8mixed", QWEN_TEXT, QWEN_VAE),
    (r"qwen.*(2509|plus)", "qwen_image_edit_2509_fp8_e4m3fn", QWEN_TEXT, QWEN_VAE),
    (r"qwen.*edit", "qwen_image_edit_fp8_e4m3fn", QWEN_TEXT, QWEN_VAE),
    (r"qwen", "qwen_image_fp8_e4m3fn", QWEN_TEXT, QWEN_VAE),
)


def edits(model: Mapping[str, Any]) -> bool:
    """Whether a job's model learns from pairs; others learn from single pictures."""
    name = str(model["diffusion_model"])
    return bool(re.search(r"kontext|flux[\W_]*2|klein|qwen.*edit", name, re.IGNORECASE))


def require_trained(*names: Any) -> None:
    """Raise JobError if one of these names stands for a model that is not trained here."""
    for name in filter(None, map(str, names)):
        last = re.split(r"[\\/]", name.rstrip("\\/"))[-1]
        for pattern, family in FAMILIES:
            if match := re.search(pattern, last, re.IGNORECASE):
                if family:
                    raise JobError(
                        say(
                            "This file trains {family} ({name}). This trainer trains FLUX.1 "
                            "(Kontext, dev), FLUX.2 (Klein, dev) and Qwen-Image (Edit).",
                            family=match.expand(family), name=shortened(name),
                        )
                    )  # fmt: skip
                break


def model_files(
    theirs: Theirs,
    diffusion_model: Any,
    clip_l: Any = "",
    t5xxl: Any = "",
    vae: Any = "",
    family: Any = "",
) -> dict[str, Any]:
    """A job's `model`: the files named or, if a name is not a file's, the usual ones.

    `family` is a further name of the model in the file.
    """
    clip, t5 = yaml.safe_load(EXAMPLES["text_encoders"])
    name = str(diffusion_model or "")
    usual = EXAMPLES["diffusion_model"]
    if "flux" in name.lower() and "kontext" not in name.lower():
        krea = "krea" in name.lower()
        usual = "flux1-krea-dev_fp8_scaled.safetensors" if krea else "flux1-dev.safetensors"

    def file(given: Any, usual: str, what: str) -> str:
        if not given or str(given).lower().endswith(SUFFIXES):
            return str(given or usual)
        remark = say("{what} {name}: it is {file} in ComfyUI", what=what, name=given, file=usual)
        theirs.remarks.append(remark)
        return usual

    named = f"{family} {name}"
    for pattern, model, text, usual_vae in USUAL:
        if re.search(pattern, named, re.IGNORECASE):
            return {
                "diffusion_model": file(diffusion_model, f"{model}.safetensors", "model"),
                "text_encoders": [file(t5xxl or clip_l, f"{text}.safetensors", "text_encoder")],
                "vae": file(vae, f"{usual_vae}.safetensors", "vae"),
            }
    return {
        "diffusion_model": file(diffusion_model, usual, "model"),
        "text_encoders": [file(clip_l, clip, "clip_l"), file(t5xxl, t5, "t5xxl")],
        "vae": file(vae, EXAMPLES["vae"], "vae"),
    }
