"""Which model another trainer's file is for, and what its files are called in ComfyUI."""

from __future__ import annotations

import re
from typing import Any

import yaml

from ...language import say
from ...trainer.host.files import EXAMPLES
from ...trainer.runs.job import JobError
from .translate import Theirs, shortened

SUFFIXES = (".safetensors", ".sft", ".gguf")
# Parts of names, the first that fits counts; what no line knows may be FLUX.1
FAMILIES = (
    (r"schnell", "FLUX.1-schnell"),
    (r"flux.*(fill|canny|depth|redux)", "FLUX.1 Fill, Canny, Depth or Redux"),
    (r"flux[\W_]*2|klein", "FLUX.2"),
    (r"flux|kontext", ""),
    (r"qwen", "Qwen-Image"),
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


def require_flux(*names: Any) -> None:
    """Raise JobError if one of these names, of a model or of its network, is another family's."""
    for name in filter(None, map(str, names)):
        last = re.split(r"[\\/]", name.rstrip("\\/"))[-1]
        for pattern, family in FAMILIES:
            if match := re.search(pattern, last, re.IGNORECASE):
                if family:
                    raise JobError(
                        say(
                            "This file trains {family} ({name}). This trainer trains FLUX.1: "
                            "Kontext from pairs, dev from single pictures.",
                            family=match.expand(family), name=shortened(name),
                        )
                    )  # fmt: skip
                break


def model_files(
    theirs: Theirs, diffusion_model: Any, clip_l: Any = "", t5xxl: Any = "", vae: Any = ""
) -> dict[str, Any]:
    """A job's `model`: the files named, or where a name is no file's the usual one."""
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

    return {
        "diffusion_model": file(diffusion_model, usual, "model"),
        "text_encoders": [file(clip_l, clip, "clip_l"), file(t5xxl, t5, "t5xxl")],
        "vae": file(vae, EXAMPLES["vae"], "vae"),
    }
