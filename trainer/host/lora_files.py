"""LoRA files of any origin: opening them, and the low-rank parts in them."""

from __future__ import annotations

import pickle
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from torch import Tensor

from ...language import say
from ..files import LoraError
from .names import comfy_module

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher as Model

lora = comfy_module("comfy.lora")
lora_convert = comfy_module("comfy.lora_convert")
comfy_utils = comfy_module("comfy.utils")

# Everything that the loaders of safetensors and of torch's files raise on damage
UNREADABLE = (
    SafetensorError, OSError, ValueError, RuntimeError, TypeError, AttributeError, KeyError,
    IndexError, EOFError, MemoryError, OverflowError, struct.error, pickle.UnpicklingError,
    zipfile.BadZipFile,
)  # fmt: skip


def load_lora_file(path: Path) -> dict[str, Tensor]:
    """The tensors of a LoRA file, read as ComfyUI's loaders read it.

    Copies: Windows cannot replace or delete a file that tensors are still mapped to. Raises
    LoraError for a file that is missing, cut, or something else.
    """
    try:
        tensors = comfy_utils.load_torch_file(str(path), safe_load=True)
        return {name: tensor.clone() for name, tensor in tensors.items()}
    except FileNotFoundError:
        raise LoraError(say("There is no LoRA file {path}.", path=path)) from None
    except UNREADABLE as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise LoraError(
            say(
                "{path} cannot be read as a LoRA ({reason}). Its download or copy may have been "
                "cut short: fetch it again, or choose another file.",
                path=path, reason=reason,
            )
        ) from error  # fmt: skip


@dataclass(frozen=True)
class LowRankPart:
    """up [rows, r] @ down [r, in] in float32, added to these `rows` of a linear, (first, count), or
    to the whole of it."""

    linear: str
    rows: tuple[int, int] | None
    up: Tensor
    down: Tensor


def low_rank_parts(model: Model, tensors: dict[str, Tensor]) -> tuple[list[LowRankPart], list[str]]:
    """The low-rank parts of a LoRA with any key names that ComfyUI loads, and its other keys: of
    text encoders, biases, norms, or unknown.

    Raises LoraError for adapters that are not low-rank pairs.
    """
    names = lora.model_lora_keys_unet(model.model, {})
    tensors = lora_convert.convert_lora(dict(tensors))
    patches = lora.load_lora(tensors, names, log_missing=False)
    parts: list[LowRankPart] = []
    used: set[str] = set()  # every key that was loaded: ComfyUI gives all adapters one set
    others: list[str] = []
    for where, adapter in patches.items():
        key, rows = (where, None) if isinstance(where, str) else where[:2]
        if not hasattr(adapter, "weights"):
            others.append(key.removeprefix("diffusion_model."))
            continue
        used |= adapter.loaded_keys
        plain = adapter.name == "lora" and all(each is None for each in adapter.weights[3:])
        if not plain or adapter.weights[1].ndim != 2:
            raise LoraError(
                say(
                    "{name} is not a plain LoRA. To start from a DoRA, LoKr or LoHa, set its "
                    "`adapter`; its keys must have kohya's or ComfyUI's names.",
                    name=key,
                )
            )
        up, down, alpha = adapter.weights[:3]
        scale = 1.0 if alpha is None else alpha / down.shape[0]
        linear = key.removeprefix("diffusion_model.").removesuffix(".weight")
        place = (rows[1], rows[2]) if rows else None
        parts.append(LowRankPart(linear, place, up.float() * scale, down.float()))
    alphas = {f"{name}.alpha" for name in names}
    unknown = (key for key in tensors if key not in used and key not in alphas)
    return parts, sorted([*others, *unknown])
