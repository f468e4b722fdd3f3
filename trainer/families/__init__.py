"""Everything specific to one family of models. No family is named outside this room.

Read `family` (the protocol, and what all families share), then `flux1`, `flux2` and `qwen_image`. A
new family is one more file and an entry in FAMILIES; docs/design/add-a-model.md says how to prove
it right.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ...language import say
from .. import host
from .family import Family
from .flux1 import Flux1
from .flux2 import Flux2
from .qwen_image import QwenImage

# FLUX.2 first: its LoRAs fit FLUX.1's rules as well
FAMILIES: tuple[type[Family], ...] = (Flux2, Flux1, QwenImage)


def recognise(base: host.Base) -> Family:
    """The loaded model, wrapped in its family. Loads nothing.

    Raises BaseModelError unless model, text encoder and VAE belong together and can be trained on.
    """
    host.check_uncompiled(base.network)
    family = family_of(base.model)
    family.check_model()
    family.check_vae(base.vae)
    family.check_text_encoder(base.clip.cond_stage_model)
    return family


def family_of(model: host.Model) -> Family:
    """The family of a model, whatever its VAE; BaseModelError if it is none of FAMILIES."""
    found = host.class_names(model.model)[0], host.class_names(model.model.diffusion_model)[0]
    for family in FAMILIES:
        if found == family.classes:
            return family(model)
    raise host.BaseModelError(
        say(
            "The model is {model} ({module}), not ComfyUI's {known}. Load {files}.",
            model=type(model.model).__name__,
            module=type(model.model.diffusion_model).__module__,
            known=known_families(),
            files=say(" or ").join(family.files["diffusion_model"] for family in FAMILIES),
        )
    )


def text_encoders(model: host.Model) -> tuple[str, int]:
    """The `type` for ComfyUI's loaders of a model's text encoders, and how many files these are."""
    family = family_of(model)
    return family.clip_type, family.clip_files


def known_families() -> str:
    return say(" or ").join(sorted(family.title for family in FAMILIES))


def family_of_lora(tensors: Mapping[str, Tensor]) -> type[Family]:
    """The family that a LoRA's `<linear>.<part>` tensors are for, by names and shapes.

    Raises ValueError if no family has these linears.
    """
    for family in FAMILIES:
        if family.fits(tensors):
            return family
    raise ValueError(say("This LoRA has layers that {known} lacks.", known=known_families()))
